"""Names of objects: what is allowed, and one made up for a service that came without.

PURE. Source: swarmkit manager/controlapi/common.go and service.go; moby pkg/namesgenerator.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from meshnet.model.ids import Rng
from meshnet.patterns import Pattern
from meshnet_control.controlapi.refusals import invalid

_MAX_DNS_NAME: Final = 63
_MAX_FILE_NAME: Final = 64
_DNS_NAME: Final = Pattern("[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?", longest=_MAX_DNS_NAME)
_FILE_NAME: Final = Pattern("[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?", longest=_MAX_FILE_NAME)

_ADJECTIVES: Final = """
admiring adoring affectionate agitated amazing angry awesome beautiful blissful bold boring
brave busy charming clever compassionate competent condescending confident cool cranky crazy
dazzling determined distracted dreamy eager ecstatic elastic elated elegant eloquent epic
exciting fervent festive flamboyant focused friendly frosty funny gallant gifted goofy
gracious great happy hardcore heuristic hopeful hungry infallible inspiring intelligent
interesting jolly jovial keen kind laughing loving lucid magical modest musing mystifying
naughty nervous nice nifty nostalgic objective optimistic peaceful pedantic pensive
practical priceless quirky quizzical recursing relaxed reverent romantic sad serene sharp
silly sleepy stoic strange stupefied suspicious sweet tender thirsty trusting unruffled
upbeat vibrant vigilant vigorous wizardly wonderful xenodochial youthful zealous zen
""".split()  # noqa: SIM905
_SURNAMES: Final = """
agnesi albattani allen almeida antonelli archimedes ardinghelli aryabhata austin babbage
banach banzai bardeen bartik bassi beaver bell benz bhabha bhaskara blackburn blackwell bohr
booth borg bose bouman boyd brahmagupta brattain brown buck burnell cannon carson cartwright
carver cerf chandrasekhar chaplygin chatelet chatterjee chebyshev cohen colden cori cray
curie curran darwin davinci dewdney dhawan diffie dijkstra dirac driscoll dubinsky easley
edison einstein elbakyan elgamal elion ellis engelbart euclid euler faraday feistel fermat
fermi feynman franklin gagarin galileo galois ganguly gates gauss germain goldberg goldstine
goldwasser golick goodall gould greider grothendieck haibt hamilton haslett hawking
heisenberg hellman hermann herschel hertz heyrovsky hodgkin hofstadter hoover hopper hugle
hypatia ishizaka jackson jang jemison jennings jepsen johnson joliot jones kalam kapitsa
kare keldysh keller kepler khayyam khorana kilby kirch knuth kowalevski lalande lamarr
lamport leakey leavitt lederberg lehmann lewin lichterman liskov lovelace lumiere mahavira
margulis matsumoto maxwell mayer mccarthy mcclintock mclaren mclean mcnulty meitner mendel
mendeleev meninsky merkle mestorf mirzakhani montalcini moore morse moser murdock napier
nash neumann newton nightingale nobel noether northcutt noyce panini pare pascal pasteur
payne perlman pike poincare poitras proskuriakova ptolemy raman ramanujan rhodes ride
ritchie robinson roentgen rosalind rubin saha sammet sanderson satoshi shamir shannon shaw
shirley shockley shtern sinoussi snyder solomon spence stonebraker sutherland swanson swartz
swirles taussig tereshkova tesla tharp thompson torvalds tu turing varahamihira vaughan
villani visvesvaraya volhard wescoff wilbur wiles williams williamson wilson wing wozniak
wright wu yalow yonath zhukovsky
""".split()  # noqa: SIM905


def check_dns_name(name: str) -> None:
    """A service's or network's name.

    Raises:
        ControlError: empty, not a DNS label, or longer than 63 characters (400).
    """
    if not name:
        raise invalid("meta: name must be provided")
    if len(name) > _MAX_DNS_NAME:
        raise invalid("name must be 63 characters or fewer")
    if not _DNS_NAME.fits(name):
        raise invalid("name must be valid as a DNS name component")


def check_file_name(name: str) -> None:
    """A secret's or config's name.

    Raises:
        ControlError: empty, too long, or with other characters (400).
    """
    if not name:
        raise invalid("name must be provided")
    if not _FILE_NAME.fits(name):
        raise invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, "
            "and the start and end character must be [a-zA-Z0-9]"
        )


def random_name(taken: Container[str], rng: Rng) -> str:
    """An ``adjective_surname`` that no object has; with a digit added when many are taken."""
    suffix = ""
    while True:
        adjective = _ADJECTIVES[rng.getrandbits(32) % len(_ADJECTIVES)]
        surname = _SURNAMES[rng.getrandbits(32) % len(_SURNAMES)]
        name = f"{adjective}_{surname}{suffix}"
        if name not in taken and (adjective, surname) != ("boring", "wozniak"):
            return name
        suffix = str(rng.getrandbits(32) % 10)

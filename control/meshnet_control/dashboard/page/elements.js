// Elements and words. Every text goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...inside) {
  return filled(document.createElement(tag), attributes, inside);
}

export function drawn(tag, attributes = {}, ...inside) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, inside);
}

function filled(element, attributes, inside) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...inside.filter((each) => each !== null));
  return element;
}

// Children as these keys say, in this order; those that are there already stay the same elements, and
// are not moved when others go, or they would lose the focus.
export function keyed(parent, keys, made) {
  const wanted = new Set(keys);
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  for (const [key, child] of there) if (!wanted.has(key)) child.remove();
  let next = parent.firstElementChild;
  for (const key of keys) {
    let child = there.get(key);
    if (child === undefined) {
      child = made(key);
      child.dataset.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// New children, unless they are the same; a link that has the focus keeps it.
export function replaced(parent, fresh) {
  const body = make("div", {}, ...fresh);
  if (parent.firstElementChild?.isEqualNode(body)) return;
  const focused = parent.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  parent.replaceChildren(body);
  if (focused) [...parent.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused)?.focus();
}

export function current(link, is) {
  if (is) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

export function facts(pairs) {
  const list = make("dl");
  for (const [word, ...said] of pairs) {
    if (said.some((each) => each !== "" && each !== null)) list.append(make("dt", {}, word), make("dd", {}, ...said));
  }
  return list;
}

// A column whose head ends in ">" holds numbers.
export function table(caption, head, rows) {
  const cell = (tag, value, column) => make(tag, { class: head[column].endsWith(">") ? "number" : null, scope: tag === "th" ? "col" : null }, value);
  return make("div", { class: "wrap" }, make("table", { "aria-label": caption },
    make("thead", {}, make("tr", {}, ...head.map((word, column) => cell("th", word.replace(">", ""), column)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, column) => cell("td", value, column)))))));
}

export const bytes = (count) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (count >= 1000 && step < units.length - 1) { count /= 1000; step += 1; }
  return `${count < 10 && step ? count.toFixed(1) : Math.round(count)} ${units[step]}`;
};
export const packets = (count) => (count > 0 && count < 10 ? count.toFixed(1) : String(Math.round(count)));
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
export const href = (kind, id) => `#${kind}/${encodeURIComponent(id)}`;
export const byName = (one, other) => one.name.localeCompare(other.name, "en", { numeric: true });
export const link = (kind, row, otherwise) => (row ? make("a", { href: href(kind, row.id) }, row.name) : otherwise ?? "");

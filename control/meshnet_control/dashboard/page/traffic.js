// What goes from host to host: a drawing, and tables that say the same.
import { $, byName, bytes, drawn, link, make, packets, replaced, set, table } from "./elements.js";

const LISTED = 100; // rows at most
const ALL = 8; // as many hosts have all their links drawn; of more the busiest ones are
const BUSIEST = 20;
const NUMBERED = { few: 14, many: 6 }; // links that have their numbers beside them
const ROOM = { wide: { wide: 860, high: 460 }, narrow: { wide: 400, high: 400 } };

let stream = null;
let said = null; // what it said last

export function follow(wanted, later) {
  if (wanted === (stream !== null)) return;
  stream?.close();
  stream = said = null;
  if (!wanted) return;
  stream = new EventSource("/traffic");
  stream.onmessage = (event) => {
    said = JSON.parse(event.data);
    later();
  };
}

const rate = (each) => `${bytes(each.bytes)}/s`;
const busiest = (links) => [...links].sort((one, other) => other.bytes - one.bytes || one.packets - other.packets);

export function render(nodes) {
  const known = (said?.links ?? []).filter((each) => nodes.has(each.from) && nodes.has(each.to));
  set($("traffic-quiet"), said === null || (!known.length && !said.missing.length) ? "counting …" : "");
  replaced($("drawing"), [draw(nodes, known)]);
  const rows = busiest(known).map((each) => [
    link("node", nodes.get(each.from)), link("node", nodes.get(each.to)), packets(each.packets), rate(each)]);
  const parts = (said?.missing ?? []).map((sentence) => make("p", { class: "trouble" }, sentence));
  if (rows.length) parts.push(make("h3", {}, "From host to host"),
    table("Traffic from host to host", ["From", "To", "Packets/s>", "Bytes>"], rows.slice(0, LISTED)));
  if (rows.length > LISTED) parts.push(make("p", { class: "note" }, `and ${rows.length - LISTED} links with less`));
  if (said?.overlays.length) parts.push(make("h3", {}, "Through overlay networks"),
    table("Traffic through overlay networks", ["Network", "Packets/s>", "Bytes>"], said.overlays.map((each) => [each.name, packets(each.packets), rate(each)])));
  replaced($("traffic-tables"), parts);
}

// Of one node: what it gets from each other host and what it sends there.
export function ofNode(nodes, id) {
  if (said === null) return [make("p", { class: "quiet" }, "counting …")];
  const others = [...nodes.values()].filter((each) => each.id !== id).sort(byName);
  const one = (from, to) => said.links.find((each) => each.from === from && each.to === to);
  const rows = others.map((each) => [each, one(each.id, id), one(id, each.id)]).filter(([, came, went]) => came || went);
  if (!rows.length) return [make("p", { class: "quiet" }, said.missing.length ? said.missing.join("; ") : "counting …")];
  const busy = rows.sort((a, b) => (b[1]?.bytes ?? 0) + (b[2]?.bytes ?? 0) - (a[1]?.bytes ?? 0) - (a[2]?.bytes ?? 0));
  return [table("Traffic with other hosts", ["Host", "Comes>", "Goes>"], busy.slice(0, LISTED).map(([each, came, went]) => [
    link("node", each), came ? rate(came) : "?", went ? rate(went) : "?"]))];
}

function draw(nodes, links) {
  const hosts = [...nodes.values()].sort(byName);
  const room = innerWidth <= 800 ? ROOM.narrow : ROOM.wide;
  const many = hosts.length > ALL;
  const at = new Map(hosts.map((each, place) => [each.id, where(room, place, hosts.length)]));
  const shown = many ? busiest(links).filter((each) => each.bytes > 0).slice(0, BUSIEST) : busiest(links);
  const idle = "Traffic between hosts as a drawing; the tables below say the same.";
  const picture = drawn("svg", { viewBox: `0 0 ${room.wide} ${room.high}`, role: "img", "aria-label": idle });
  picture.append(drawn("defs", {}, drawn("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" },
    drawn("path", { d: "M0,0 L8,4 L0,8 z" }))));
  const words = [];
  shown.forEach((each, place) => {
    const curve = bent(at.get(each.from), at.get(each.to));
    const width = each.bytes > 0 ? 1.2 + Math.log10(1 + each.bytes) * (many ? 0.35 : 0.75) : 1;
    picture.append(drawn("path", { class: each.bytes > 0 ? "flow" : "flow idle", d: curve.path, "stroke-width": width.toFixed(2), "marker-end": "url(#arrow)" }));
    if (each.bytes > 0 && place < (many ? NUMBERED.many : NUMBERED.few)) {
      words.push(drawn("text", { class: "flow-rate", x: curve.x, y: curve.y }, rate(each)),
        drawn("text", { class: "flow-rate small", x: curve.x, y: curve.y + 13 }, `${packets(each.packets)} packets/s`));
    }
  });
  for (const each of hosts) {
    const { x, y, out } = at.get(each.id);
    picture.append(drawn("circle", { class: each.state === "ready" ? "host" : "host bad", cx: x, cy: y, r: many ? 7 : 13 }));
    words.push(drawn("text", { class: "host-name", x: Math.round(x + out.x * (many ? 26 : 12)), y: Math.round(y + 5 + (out.y < 0 ? -1 : 1) * (many ? Math.abs(out.y) * 16 : 25)) }, each.state === "ready" ? each.name : `${each.name} ✕ ${each.state}`));
  }
  picture.append(...words);
  return picture;
}

function where(room, place, many) {
  const angle = (2 * Math.PI * place) / Math.max(1, many) - Math.PI / 2 - (many === 2 ? Math.PI / 2 : 0);
  const out = { x: Math.cos(angle), y: Math.sin(angle) };
  return { x: Math.round(room.wide / 2 + out.x * room.wide * 0.37), y: Math.round(room.high / 2 + out.y * room.high * 0.37), out };
}

// Each direction bends to its own side, and begins and ends beside the hosts.
function bent(from, to) {
  const dx = to.x - from.x, dy = to.y - from.y, long = Math.hypot(dx, dy) || 1;
  const aside = Math.min(46, long * 0.14), gap = 20;
  const side = { x: (-dy / long) * aside, y: (dx / long) * aside };
  const middle = { x: (from.x + to.x) / 2 + side.x * 2, y: (from.y + to.y) / 2 + side.y * 2 };
  const near = (one) => { const l = Math.hypot(middle.x - one.x, middle.y - one.y) || 1; return { x: one.x + ((middle.x - one.x) / l) * gap, y: one.y + ((middle.y - one.y) / l) * gap }; };
  const first = near(from), last = near(to);
  const path = `M${first.x.toFixed(1)},${first.y.toFixed(1)} Q${middle.x.toFixed(1)},${middle.y.toFixed(1)} ${last.x.toFixed(1)},${last.y.toFixed(1)}`;
  return { path, x: Math.round((from.x + to.x) / 2 + side.x), y: Math.round((from.y + to.y) / 2 + side.y) };
}

// The page: what /events tells, as elements.
import { $, byName, bytes, current, facts, href, keyed, link, make, plural, replaced, set, table } from "./elements.js";
import * as log from "./log.js";
import * as traffic from "./traffic.js";

const cluster = { nodes: new Map(), services: new Map(), tasks: new Map() };
let told = false; // whether anything was, so that what is not there can be called gone
const SHAPES = { running: "●", coming: "◔", going: "▽", failed: "✕" };
const MANY = 12; // tasks of a node from which on they are drawn small
const AGAIN_MS = 3000; // after an answer that was no stream
const SAID_MS = 2500; // changes are told together, so that a reader of them keeps up

// ---- what is looked at ----

function chosen() {
  const [kind, id] = location.hash.slice(1).split("/");
  try {
    return ["service", "node", "task"].includes(kind) && id ? { kind, id: decodeURIComponent(id) } : null;
  } catch { return null; }
}

function counts(service) {
  const job = service.mode.endsWith("job");
  return job ? `${service.completed} done, ${service.running} running` : `${service.running}/${service.wanted}`;
}

const short = (service) => !service.mode.endsWith("job") && service.running < service.wanted;

// ---- the whole page ----

function render() {
  const looked = chosen();
  const task = looked?.kind === "task" ? cluster.tasks.get(looked.id) : null;
  const service = looked?.kind === "service" ? looked.id : task?.service;
  const traffics = location.hash === "#traffic";
  $("cluster").hidden = traffics;
  $("traffic").hidden = !traffics;
  current($("to-cluster"), !traffics);
  current($("to-traffic"), traffics);
  traffic.follow(traffics || looked?.kind === "node", later);
  if (traffics) traffic.render(cluster.nodes);
  else {
    renderServices(looked);
    renderNodes(looked, service);
  }
  const running = [...cluster.tasks.values()].filter((each) => each.group === "running").length;
  set($("sums"), told ? [plural(cluster.nodes.size, "node"), plural(cluster.services.size, "service"),
    `${plural(running, "task")} running`].join(", ") : "");
  renderDetails(looked);
}

function renderServices(looked) {
  const wanted = $("find").value.trim().toLowerCase();
  const shown = [...cluster.services.values()].filter((each) => each.name.toLowerCase().includes(wanted)).sort(byName);
  keyed($("services"), shown.map((each) => each.id), (id) =>
    make("li", {}, make("a", { href: href("service", id) }, make("b"), " ", make("span"))));
  for (const item of $("services").children) {
    const each = cluster.services.get(item.dataset.key);
    const link = item.firstElementChild;
    link.className = `chip c${each.colour}${short(each) ? " short" : ""}`;
    set(link.children[0], each.name);
    set(link.children[1], counts(each) + (each.update.state === "updating" ? ", updating" : ""));
    current(link, looked?.kind === "service" && looked.id === each.id);
  }
  $("no-services").hidden = !told || cluster.services.size > 0;
}

function renderNodes(looked, service) {
  const wanted = $("find").value.trim().toLowerCase();
  const theirs = new Map([...cluster.nodes.keys()].map((id) => [id, []]));
  for (const each of cluster.tasks.values()) {
    const key = theirs.has(each.node) ? each.node : "";
    if (!theirs.has(key)) theirs.set(key, []);
    theirs.get(key).push(each);
  }
  const nodes = [...cluster.nodes.values()].sort(byName).map((each) => each.id);
  if (theirs.has("")) nodes.push("");
  keyed($("columns"), nodes, makeColumn);
  for (const column of $("columns").children) {
    const node = cluster.nodes.get(column.dataset.key);
    const tasks = theirs.get(column.dataset.key).sort(byName);
    renderColumn(column, node, tasks, looked);
    const list = column.lastElementChild;
    keyed(list, tasks.map((each) => each.id), (id) => make("li", {}, make("a", { href: href("task", id), tabindex: "-1" },
      make("span", { class: "shape", "aria-hidden": "true" }), make("span", { class: "name" }), " ", make("span", { class: "state" }))));
    for (const item of list.children) {
      const each = cluster.tasks.get(item.dataset.key);
      const other = (service && each.service !== service) || (wanted && !each.name.toLowerCase().includes(wanted));
      renderTask(item.firstElementChild, each, Boolean(other), looked);
    }
    rove(list);
  }
}

function makeColumn(id) {
  const title = make("h3");
  title.append(id ? make("a", { href: href("node", id) }) : "No node yet");
  return make("section", { "aria-label": id ? null : "No node yet" }, title, make("p", { class: "facts" }), make("ul", { class: "tasks" }));
}

function renderColumn(column, node, tasks, looked) {
  const facts = [make("span", {}, plural(tasks.length, "task"))];
  if (node) {
    const link = column.firstElementChild.firstElementChild;
    set(link, node.name);
    column.setAttribute("aria-label", node.name);
    current(link, looked?.kind === "node" && looked.id === node.id);
    const bad = node.state === "ready" ? "" : `✕ ${node.state}`;
    const place = node.availability === "active" ? "" : node.availability;
    const role = node.leader ? "leader" : node.role;
    for (const word of [place, bad].filter(Boolean)) facts.unshift(make("span", { class: "word" }, word), make("span", {}, " · "));
    facts.unshift(make("span", {}, `${role} · ${node.address} · `));
  }
  column.className = `node${node && node.state !== "ready" ? " bad" : ""}${tasks.length > MANY ? " many" : ""}`;
  const line = column.children[1];
  if (line.textContent !== facts.map((each) => each.textContent).join("")) line.replaceChildren(...facts);
}

function renderTask(link, task, dim, looked) {
  const service = cluster.services.get(task.service);
  link.className = `task c${service?.colour ?? 0} ${task.group}${dim ? " dim" : ""}`;
  set(link.children[0], SHAPES[task.group] ?? "?");
  set(link.children[1], task.name);
  set(link.children[2], task.state === "running" && task.group === "going" ? "stopping" : task.state);
  link.children[2].classList.toggle("hidden", task.group === "running");
  link.title = `${task.name}: ${task.message || task.state}`;
  current(link, looked?.kind === "task" && looked.id === task.id);
}

// One stop of the Tab key for each list of tasks; arrows go on from there.
function rove(list) {
  const links = [...list.querySelectorAll("a")];
  const held = links.find((each) => each === document.activeElement) ?? links.find((each) => each.tabIndex === 0) ?? links[0];
  for (const each of links) each.tabIndex = each === held ? 0 : -1;
}

$("columns").addEventListener("keydown", (event) => {
  const link = event.target.closest(".tasks a");
  if (!link || event.altKey || event.ctrlKey || event.metaKey) return;
  const links = [...link.closest("ul").querySelectorAll("a")];
  const at = links.indexOf(link);
  const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: links.length - 1 }[event.key];
  if (to === undefined || !links[to]) return;
  event.preventDefault();
  links[to].focus();
  rove(link.closest("ul"));
});

// ---- details ----

let shares = null; // the stream of the service that is looked at
let counted = null; // what it said last
let opener = null; // where the focus goes back to

function renderDetails(looked) {
  const known = looked && cluster[`${looked.kind}s`].get(looked.id);
  follow(looked?.kind === "service" && known ? looked.id : null);
  log.look(looked?.kind === "task" && known ? looked.id : null);
  $("details").hidden = !looked;
  if (!looked) return;
  set($("details-title"), known ? `${looked.kind} ${known.name}` : told ? `This ${looked.kind} is gone` : looked.kind);
  const about = { service: aboutService, node: aboutNode, task: aboutTask };
  replaced($("details-body"), known ? about[looked.kind](known) : []);
}

const labels = (row) => Object.entries(row.labels).map(([name, value]) => (value ? `${name}=${value}` : name)).join(", ");

function tasksTable(caption, tasks, beside) {
  if (!tasks.length) return make("p", { class: "quiet" }, "none");
  const rows = tasks.sort(byName).map((each) => [link("task", each), beside === "node"
    ? link("node", cluster.nodes.get(each.node), "none yet") : link("service", cluster.services.get(each.service)),
    `${SHAPES[each.group] ?? ""} ${each.group === "going" ? "stopping" : each.state}`]);
  return table(caption, ["Task", beside === "node" ? "Node" : "Service", "State"], rows);
}

function aboutService(service) {
  const tasks = [...cluster.tasks.values()].filter((each) => each.service === service.id);
  const update = service.update.state;
  const ports = service.ports.map((port) => `${port.published} → ${port.target}/${port.protocol}${port.mode === "host" ? " (host)" : ""}`);
  const parts = [facts([
    ["Replicas", `${counts(service)}${service.mode.endsWith("job") ? "" : " running"}`],
    ["Mode", service.mode],
    ["Image", service.image],
    ["Trouble", service.trouble],
    ["Update", update ? update.replaceAll("_", " ") : "", service.update.message && update !== "completed" ? `: ${service.update.message}` : ""],
    ["Virtual IP", service.vips.map((vip) => `${vip.address} (${vip.network})`).join(", ")],
    ["Ports", ports.join(", ")],
    ["Labels", labels(service)],
  ])];
  if (update === "updating" || update === "rollback_started") {
    parts.push(make("p", { class: "more" }, `${service.update.fresh} of ${service.wanted} run as they should now`),
      make("progress", { max: Math.max(1, service.wanted), value: service.update.fresh, "aria-label": "Progress of the update" }));
  }
  parts.push(make("h3", {}, "Backends"));
  if (counted?.service !== service.id) parts.push(make("p", { class: "quiet" }, "counting …"));
  else {
    parts.push(table("Backends", ["Task", "Node", "State", "Share>", "Conns>", "Open>", "Bytes>"], counted.backends.map((each) => [
      each.name, each.node, each.state, share(each.share), String(each.connections), String(each.open), bytes(each.bytes)])));
    for (const sentence of counted.missing) parts.push(make("p", { class: "trouble" }, sentence));
    parts.push(make("p", { class: "note" }, "Connections of now and of the last two minutes, of all nodes."));
  }
  parts.push(make("h3", {}, "Tasks"), tasksTable("Tasks", tasks, "node"));
  return parts;
}

function share(part) {
  const said = `${Math.round(part * 100)} %`;
  return make("span", { class: "share" }, make("meter", { value: part, "aria-hidden": "true" }), said);
}

function aboutNode(node) {
  const tasks = [...cluster.tasks.values()].filter((each) => each.node === node.id);
  return [facts([
    ["Role", node.leader ? "manager, leader" : node.role],
    ["State", `${node.state === "ready" ? "●" : "✕"} ${node.state}`, node.message ? `: ${node.message}` : ""],
    ["Reachability", node.reachability],
    ["Availability", node.availability],
    ["Address", node.address],
    ["Processors", node.cpus ? String(node.cpus) : ""],
    ["Memory", node.memory ? bytes(node.memory) : ""],
    ["Platform", node.platform],
    ["Engine", node.engine],
    ["Labels", labels(node)],
  ]), make("h3", {}, "Traffic with other hosts"), ...traffic.ofNode(cluster.nodes, node.id),
  make("h3", {}, "Tasks"), tasksTable("Tasks", tasks, "service")];
}

function aboutTask(task) {
  return [facts([
    ["Service", link("service", cluster.services.get(task.service))],
    ["Node", link("node", cluster.nodes.get(task.node), "none yet")],
    ["State", `${SHAPES[task.group] ?? ""} ${task.state}`],
    ["Wanted", task.wanted],
    ["Message", task.message],
    ["Since", task.since ? new Date(task.since * 1000).toLocaleString() : ""],
    ["Image", task.image],
    ["Id", task.id],
  ])];
}

function follow(service) {
  if (shares && shares.service === service) return;
  shares?.stream.close();
  shares = counted = null;
  if (!service) return;
  const stream = new EventSource(`/shares?service=${encodeURIComponent(service)}`);
  shares = { service, stream };
  stream.onmessage = (event) => {
    counted = JSON.parse(event.data);
    later();
  };
}

window.addEventListener("hashchange", () => {
  render();
  if (chosen()) {
    if (!$("details").contains(document.activeElement)) opener = document.activeElement;
    $("details-title").focus({ preventScroll: true });
    if (innerWidth <= 800) $("details").scrollIntoView();
  } else if (opener?.isConnected) {
    opener.focus();
    opener = null;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen()) location.hash = "";
});
$("find").addEventListener("input", () => later());
window.addEventListener("resize", () => later());

// ---- what comes in ----

let due = false;
function later() {
  if (due) return;
  due = true;
  setTimeout(() => { due = false; render(); }, 30);
}

function apply(news) {
  told = true;
  if (news.whole) for (const kind of Object.values(cluster)) kind.clear();
  const before = new Map([...cluster.services.values(), ...cluster.nodes.values()].map((each) => [each.id, word(each)]));
  for (const [kind, rows] of Object.entries(cluster)) {
    for (const id of news[kind]?.gone ?? []) rows.delete(id);
    for (const row of news[kind]?.put ?? []) rows.set(row.id, row);
  }
  $("trouble").hidden = !news.trouble;
  set($("trouble"), news.trouble);
  if (!news.whole) {
    for (const each of [...(news.services?.put ?? []), ...(news.nodes?.put ?? [])]) {
      if (before.get(each.id) !== word(each)) say(each.id, `${each.name}: ${word(each)}`);
    }
  }
  later();
}

const word = (row) => ("colour" in row ? `${counts(row)}${row.mode.endsWith("job") ? "" : " running"}` : `${row.state}, ${row.availability}`);

const unsaid = new Map();
function say(id, sentence) {
  if (!unsaid.size) setTimeout(() => {
    const all = [...unsaid.values()];
    unsaid.clear();
    set($("said"), all.length > 4 ? `${all.slice(0, 4).join("; ")}; and ${all.length - 4} more changes` : all.join("; "));
  }, SAID_MS);
  unsaid.set(id, sentence);
}

function connect() {
  const stream = new EventSource("/events");
  stream.onmessage = (event) => {
    set($("link"), "● live");
    $("link").className = "";
    apply(JSON.parse(event.data));
  };
  stream.onerror = () => {
    set($("link"), "✕ not connected: what is shown may be old");
    $("link").className = "away";
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  };
}

connect();

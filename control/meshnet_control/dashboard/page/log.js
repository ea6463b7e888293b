// The log of the task that is looked at, as long as it is.
import { $, make, set } from "./elements.js";

const KEPT = 1000; // lines; older ones go

let wanted = false; // also for the next task that is looked at
let stream = null;
let task = null;

export function look(id) {
  $("log").hidden = !id;
  $("details").classList.toggle("wide", Boolean(id) && wanted);
  if (id === task) return;
  task = id;
  begin();
}

$("log-show").addEventListener("click", () => {
  wanted = !wanted;
  $("details").classList.toggle("wide", wanted);
  begin();
});

function begin() {
  stream?.close();
  stream = null;
  $("log-lines").replaceChildren();
  $("log-show").setAttribute("aria-expanded", String(wanted));
  set($("log-show"), wanted ? "Hide the log" : "Show the log");
  $("log-lines").hidden = !wanted;
  const follows = wanted && task;
  set($("log-state"), follows ? "asking its node …" : "");
  if (!follows) return;
  const one = (stream = new EventSource(`/logs?task=${encodeURIComponent(task)}`));
  one.onopen = () => set($("log-state"), "● live; nothing yet");
  one.onmessage = (event) => {
    const told = JSON.parse(event.data);
    add(told.lines);
    if ($("log-lines").childElementCount) set($("log-state"), "● live");
    if (!told.ended) return;
    one.close();
    set($("log-state"), told.missing || "that is all: it runs no more");
  };
  one.onerror = async () => {
    if (one !== stream) return;
    if (one.readyState !== EventSource.CLOSED) { // it begins anew, with the newest lines
      set($("log-state"), "✕ not connected");
      $("log-lines").replaceChildren();
    } else set($("log-state"), await refusal(task));
  };
}

async function refusal(id) {
  try {
    const answer = await fetch(`/logs?task=${encodeURIComponent(id)}`, { signal: AbortSignal.timeout(3000) });
    if (answer.ok) await answer.body.cancel();
    return answer.ok ? "✕ ended: hide and show it again" : (await answer.text()).trim();
  } catch { return "✕ not connected: hide and show it again"; }
}

function add(lines) {
  const list = $("log-lines");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  list.append(...lines.slice(-KEPT).map((each) => {
    const row = make("li", { class: each.stream === 2 ? "err" : null });
    if (each.at) row.append(make("time", { datetime: each.at }, clock(each.at)), " ");
    if (each.stream === 2) row.append(make("span", { class: "hidden" }, "standard error: "));
    row.append(each.text);
    return row;
  }));
  while (list.childElementCount > KEPT) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function clock(at) {
  const read = new Date(at);
  return Number.isNaN(read.getTime()) ? "" : read.toLocaleTimeString("en-GB");
}

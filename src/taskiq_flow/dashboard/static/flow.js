// Keeps live regions fresh without disturbing whoever reads or edits them. Everything is readable without it.

const root = document.documentElement;
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const store = {
  get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* a private window */ } },
};

// --- theme: the system's, until a reader chooses
const saved = store.get("flow-theme");
if (saved) root.dataset.theme = saved;
const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

// --- patching: bring what is shown to what is fresh, and keep every node that stays
const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") ?? (node.id || null) : null;
const isSameKind = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
// What belongs to the reader and not to the server.
const own = new Set(["hidden", "open", "tabindex", "aria-selected", "aria-pressed"]);

export function patch(node, fresh) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== fresh.data) node.data = fresh.data;
    return;
  }
  const isBusy = node === document.activeElement && node.matches("input, textarea, select");
  for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name) && !own.has(name)) node.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (node.getAttribute(name) !== value && !(own.has(name) && node.hasAttribute("data-own")) && !(isBusy && name === "value")) node.setAttribute(name, value);
  if (!isBusy) patchChildren(node, fresh);
}

function patchChildren(node, fresh) {
  const keyed = new Map();
  for (const child of node.children) { const key = keyOf(child); if (key !== null) keyed.set(key, child); }
  let at = node.firstChild;
  for (const want of fresh.childNodes) {
    const key = keyOf(want);
    const known = key !== null ? keyed.get(key) : null;
    if (known && isSameKind(known, want)) {
      keyed.delete(key);
      if (known === at) at = at.nextSibling; else move(node, known, at);
      patch(known, want);
      continue;
    }
    // What has a key is never made into something else.
    while (at && keyOf(at) !== null && keyed.has(keyOf(at)) && key === null) at = at.nextSibling;
    if (at && key === null && isSameKind(at, want)) { const next = at.nextSibling; patch(at, want); at = next; }
    else node.insertBefore(document.importNode(want, true), at);
  }
  for (const child of keyed.values()) { if (child === at) at = at.nextSibling; child.remove(); }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

/** Put a node elsewhere; where the browser can, without losing focus and animations. */
function move(parent, child, before) {
  if (parent.moveBefore) { parent.moveBefore(child, before); return; }
  const focused = child.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(child, before);
  focused?.focus({ preventScroll: true });
}

// --- one line a page for those who listen instead of looking; not more often than every 10 s
const spoken = byId("spoken");
let spokenAt = -Infinity, toSpeak = "", speaking = 0;
export function speak(text) {
  if (!spoken || !text) return;
  toSpeak = text;
  speaking ||= setTimeout(() => { speaking = 0; spokenAt = performance.now(); spoken.textContent = toSpeak; }, Math.max(0, spokenAt + 10_000 - performance.now()));
}

/** Rows that are new wait behind a button; those that are there are brought up to date in place. */
function patchRows(region, fresh) {
  const [body, news] = [$("tbody", region), $("tbody", fresh)];
  if (!body || !news) { patch(region, fresh); return; }
  const known = new Map($$("[data-key]", body).map((row) => [row.dataset.key, row]));
  let newer = 0;
  for (const row of $$(":scope > [data-key]", news)) known.has(row.dataset.key) ? patch(known.get(row.dataset.key), row) : newer++;
  const button = byId(region.dataset.newer);
  if (button && newer) {
    button.hidden = false;
    $("[data-count]", button).textContent = `${newer} newer`;
    speak(button.textContent);
  }
}

/** New lines go to the end; whoever reads there stays there. */
function append(region, fresh) {
  const follows = region.dataset.follow !== "off";
  for (const line of [...fresh.children]) {
    if (line.dataset.key && region.querySelector(`[data-key="${CSS.escape(line.dataset.key)}"]`)) continue;
    line.classList.add("fresh");
    region.append(line);
  }
  while (region.children.length > 2000) region.firstElementChild.remove();
  if (fresh.dataset.src) region.dataset.src = fresh.dataset.src;
  if (follows) region.scrollTop = region.scrollHeight;
  applyLineFilter(region);
}

// --- live regions
const regions = () => $$("[data-live]");
const dot = $(".live");
const held = new Map();
let away = null;

function isHeld(region) {
  const at = document.activeElement;
  const marked = getSelection();
  return region.contains(at) && at.matches("input:not([type=checkbox]), textarea, select")
    || marked && !marked.isCollapsed && region.contains(marked.anchorNode)
    || region.querySelector(":active") !== null;
}
function say(state, words) {
  if (!dot) return;
  dot.dataset.state = state;
  dot.lastElementChild.textContent = words;
}
function showLive() {
  if (away) say("off", `Offline since ${away.since}`);
  else if (held.size && !document.hidden) say("held", "Held");
  else say("on", "Live");
}

const busy = new Map();
async function refresh(region) {
  const name = region.dataset.live;
  if (!region.dataset.src) return;
  if (document.hidden || isHeld(region)) { held.set(name, region); showLive(); return; }
  if (busy.has(name)) { busy.set(name, true); return; }
  busy.set(name, false);
  const { src } = region.dataset;
  try {
    const answer = await fetch(src, { headers: { accept: "text/html" }, redirect: "manual" });
    if (answer.status === 401 || answer.type === "opaqueredirect") { location.reload(); return; }
    if (answer.status >= 500) { goneAway(); return; }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
    if (away) { back(); }
    if (!fresh) return;
    if (region.dataset.src !== src) { busy.set(name, true); return; }
    if (isHeld(region)) { held.set(name, region); showLive(); return; }
    if (fresh.dataset.spoken !== region.dataset.spoken) speak(fresh.dataset.spoken);
    if ("loading" in region.dataset) region.replaceWith(document.importNode(fresh, true));
    else if (region.dataset.mode === "append") append(region, fresh);
    else if (region.dataset.mode === "rows") patchRows(region, fresh);
    else if (region.dataset.mode === "calm" && region.matches(":hover")) { patchRows(region, fresh); region.addEventListener("pointerleave", () => refresh(region), { once: true }); }
    else patch(region, fresh);
  } catch { goneAway(); }
  finally {
    const again = busy.get(name);
    busy.delete(name);
    if (again) refresh(region);
  }
}
export const refreshAll = () => regions().forEach(refresh);
function release() {
  if (document.hidden || !held.size) return;
  const waiting = [...held.values()];
  held.clear();
  showLive();
  waiting.forEach(refresh);
}
for (const event of ["pointerup", "focusout", "visibilitychange", "selectionchange"]) document.addEventListener(event, () => setTimeout(release, 0));

// --- the store away: the last picture stays, with its time, and the page tries again
const banner = byId("away");
function goneAway() {
  if (!away) {
    away = { since: new Date().toLocaleTimeString([], { hour12: false }), wait: 2, left: 2, timer: 0 };
    $("[data-shown]", banner).textContent = away.since;
    banner.hidden = false;
    away.timer = setInterval(tick, 1000);
  } else { away.wait = Math.min(10, away.wait * 2); away.left = away.wait; }
  $("[data-left]", banner).textContent = `${away.left} s`;
  showLive();
}
function tick() {
  away.left -= 1;
  $("[data-left]", banner).textContent = `${Math.max(0, away.left)} s`;
  if (away.left === 0) tryAgain();
}
function tryAgain() {
  const first = regions().find((region) => region.dataset.src && region.dataset.mode !== "append");
  first ? refresh(first) : comeBack();
}
/** A page of which nothing could be shown: loaded again, or, after an act, the one that asked. */
async function comeBack() {
  const url = $("[data-again]")?.dataset.again || document.referrer || location.href;
  const answer = await fetch(url, { headers: { accept: "text/html" }, redirect: "manual" }).catch(() => null);
  !answer || answer.status >= 500 ? goneAway() : location.replace(url);
}
function back() {
  clearInterval(away.timer);
  away = null;
  banner.hidden = true;
  showLive();
  regions().forEach(refresh);
}

if ($("[data-again]")) goneAway();

const stream = $("meta[name=flow-events]")?.content;
const due = new Map();
const isFor = (region, kinds) => kinds.includes("*") || region.dataset.on?.split(" ").some((kind) => kinds.includes(kind));
let source = null;
let heard = null;

function changed({ data, lastEventId }) {
  heard = lastEventId || heard;
  const kinds = data.split(" ");
  for (const region of regions()) {
    const name = region.dataset.live;
    if (!isFor(region, kinds) || due.has(name)) continue;
    due.set(name, setTimeout(() => { due.delete(name); if (region.isConnected) refresh(region); }, Number(region.dataset.wait ?? 50)));
  }
}
function listen() {
  const address = new URL(stream, location.href);
  if (heard) address.searchParams.set("after", heard);
  source = new EventSource(address);
  source.addEventListener("changed", changed);
  source.addEventListener("away", goneAway);
  source.addEventListener("open", () => { if (away) tryAgain(); else showLive(); });
  source.addEventListener("error", () => { if (!away) say("off", "Reconnecting"); });
}
function hangUp() { source?.close(); source = null; }
if (stream) {
  listen();
  addEventListener("pagehide", hangUp);
  // A browser has six connections to a host for all its tabs: those in the background hold none.
  let leaving = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(hangUp, 3000);
    else if (!source) { listen(); regions().forEach(refresh); }
  });
  addEventListener("pageshow", () => { if (!source) { listen(); regions().forEach(refresh); } });
}
// Ages and running times are the server's words; they are asked for again while something goes on.
for (const { dataset } of regions())
  if (dataset.every) setInterval(() => { const region = $(`[data-live="${dataset.live}"]`); if (region && !document.hidden && !away) refresh(region); }, Number(dataset.every) * 1000);
// What was not there in time has a place held for it.
$$("[data-loading]").forEach(refresh);

// --- tabs, dialogs, copying, toasts
function select(tab) {
  for (const other of $$("[role=tab]", tab.closest("[role=tablist]"))) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = !on;
  }
  for (const log of $$(".log", byId(tab.getAttribute("aria-controls")))) log.scrollTop = log.scrollHeight;
  if (tab.dataset.hash) history.replaceState(null, "", `#${tab.dataset.hash}`);
}
function toast(text) {
  const note = byId("t-toast").content.firstElementChild.cloneNode(true);
  note.append(text);
  $(".toasts").append(note);
  fade(note);
}
const fade = (note) => setTimeout(() => note.remove(), 6000);
$$(".toasts .toast").forEach(fade);

function openDialog(id, opener) {
  const dialog = byId(id);
  if (!dialog) return;
  for (const [name, value] of Object.entries(opener?.dataset ?? {}))
    if (name.startsWith("fill")) {
      const field = name.slice(4).toLowerCase();
      for (const input of $$(`[name="${field}"]`, dialog)) input.value = value;
      for (const text of $$(`[data-say="${field}"]`, dialog)) text.textContent = value;
    }
  dialog.showModal();
}
const chosen = () => $$("tbody .check:checked").map((box) => box.value);
function countChosen() {
  const count = chosen().length;
  for (const bar of $$(".bulk")) {
    bar.classList.toggle("is-empty", !count);
    for (const text of $$("[data-chosen]", bar)) text.textContent = count ? `${count} selected` : "Select to act on several";
    for (const button of $$("[data-needs-choice]", bar)) button.toggleAttribute("disabled", !count);
  }
  for (const text of $$("[data-chosen-count]")) text.textContent = count;
  for (const row of $$("tbody tr:has(.check)")) row.setAttribute("aria-selected", $(".check", row).checked);
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest?.(selector);
  if (at("[data-theme-toggle]")) { root.dataset.theme = isDark() ? "light" : "dark"; store.set("flow-theme", root.dataset.theme); }
  if (at("[role=tab]")) select(at("[role=tab]"));
  if (at("[data-open]")) openDialog(at("[data-open]").dataset.open, at("[data-open]"));
  if (at("[data-close]")) at("dialog")?.close();
  if (at("[data-copy]")) navigator.clipboard?.writeText(at("[data-copy]").dataset.copy).then(() => toast(at("[data-copy]")?.dataset.said ?? "Copied"));
  if (at("[data-reload]")) location.reload();
  if (at("[data-try]")) tryAgain();
  if (at("[data-follow]")) follow(at("[data-follow]"));
  if (event.target.matches?.("dialog")) event.target.close();
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) for (const box of $$("tbody .check", event.target.closest("table"))) box.checked = event.target.checked;
  if (event.target.matches(".check")) countChosen();
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  const list = $("[data-chosen-ids]", form);
  if (list) list.value = chosen().join(",");
  // An empty field is no filter: every view keeps the shortest address.
  if (form.method === "get") for (const input of $$("input, select", form)) if (!input.value) input.disabled = true;
  const button = event.submitter;
  if (button && form.method === "post") setTimeout(() => { button.disabled = true; }, 0);
});
countChosen();

// --- logs: follow the end, filter by text
function follow(button) {
  const log = byId(button.dataset.follow);
  const on = log.dataset.follow === "off";
  setFollow(log, on);
  if (on) log.scrollTop = log.scrollHeight;
}
function setFollow(log, on) {
  log.dataset.follow = on ? "on" : "off";
  const button = $(`[data-follow="${log.id}"]`);
  button?.setAttribute("aria-pressed", on);
  if (button) button.lastElementChild.textContent = on ? "Following" : "Follow";
}
function applyLineFilter(log) {
  const words = $(`[data-filter="${log.id}"]`)?.value.toLowerCase() ?? "";
  for (const line of log.children) line.hidden = words !== "" && !line.textContent.toLowerCase().includes(words);
}
document.addEventListener("input", ({ target }) => { if (target.matches("[data-filter]")) applyLineFilter(byId(target.dataset.filter)); });
for (const log of $$(".log")) log.scrollTop = log.scrollHeight;
document.addEventListener("scroll", ({ target: log }) => {
  if (!log.matches?.(".log")) return;
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 12;
  if (atEnd !== (log.dataset.follow !== "off")) setFollow(log, atEnd);
}, { passive: true, capture: true });

// --- the timeline: dragging over it is a zoom, and a zoom is an address
const mark = document.createElement("div");
mark.className = "g-zoom";
let drag = null;
const share = (x, box) => Math.min(1, Math.max(0, (x - box.left) / box.width));
document.addEventListener("pointerdown", (event) => {
  const lane = event.target.closest?.(".gantt[data-start] .g-svg");
  if (!lane || event.button || event.pointerType === "touch") return;
  drag = { gantt: lane.closest(".gantt"), box: lane.getBoundingClientRect(), x: event.clientX };
});
document.addEventListener("pointermove", (event) => {
  if (!drag || Math.abs(event.clientX - drag.x) < 6) return;
  event.preventDefault();
  const host = drag.gantt.getBoundingClientRect();
  const [low, high] = [drag.x, Math.min(drag.box.right, Math.max(drag.box.left, event.clientX))].sort((a, b) => a - b);
  drag.gantt.append(mark);
  mark.style.setProperty("left", `${low - host.left}px`);
  mark.style.setProperty("width", `${high - low}px`);
});
document.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { gantt, box, x } = drag;
  drag = null;
  mark.remove();
  if (Math.abs(event.clientX - x) < 6) return;
  getSelection()?.removeAllRanges();
  const start = Number(gantt.dataset.start), width = Number(gantt.dataset.stop) - start;
  const [from, to] = [x, event.clientX].map((at) => share(at, box)).sort((a, b) => a - b).map((part) => (start + part * width).toPrecision(6));
  const url = new URL(location.href);
  url.searchParams.set("from", Number(from));
  url.searchParams.set("to", Number(to));
  visit(url);
});

// --- another view of the same run: its address, without losing the place in graph, list and tabs
const main = $("main[data-soft]");
let visits = 0;
async function visit(url, isNew = true) {
  if (!main) { location.assign(url); return; }
  if (isNew) url.hash = location.hash;
  const number = ++visits;
  try {
    const answer = await fetch(url, { headers: { accept: "text/html" }, redirect: "manual" });
    const fresh = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html");
    if (number !== visits) return;
    if (!fresh || !$("main[data-soft]", fresh)) { location.assign(url); return; }
    if (isNew) history.pushState(null, "", url);
    patch(main, $("main", fresh));
    for (const dialog of $$("dialog", fresh)) if (byId(dialog.id)) patch(byId(dialog.id), dialog); else document.body.append(document.importNode(dialog, true));
    for (const log of $$(".log")) { applyLineFilter(log); if (log.dataset.follow !== "off") log.scrollTop = log.scrollHeight; }
    countChosen();
    if (document.activeElement === document.body) main.focus({ preventScroll: true });
    const drawer = $(".drawer:not(.drawer--over)");
    if (drawer && drawer.getBoundingClientRect().top > innerHeight * 0.8) drawer.scrollIntoView();
    $$("[data-loading]").forEach(refresh);
  } catch { location.assign(url); }
}
if (main) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || !main.contains(link) || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const url = new URL(link.href.baseVal ?? link.href, location.href);
    if (url.pathname !== location.pathname || url.hash) return;
    event.preventDefault();
    visit(url);
  });
  addEventListener("popstate", () => visit(new URL(location.href), false));
}

// --- keys: none of them changes anything, and all can be turned off
const keysOff = byId("keys-off");
if (keysOff) {
  keysOff.checked = store.get("flow-keys") === "off";
  keysOff.addEventListener("change", () => store.set("flow-keys", keysOff.checked ? "off" : "on"));
}
let gAt = 0;
function step(list, current, by) {
  const next = list[Math.min(list.length - 1, Math.max(0, list.indexOf(current) + by))];
  next?.focus();
}
/** The node of the graph that lies nearest in a direction. */
function neighbour(node, key) {
  const middle = (other) => { const box = $(".box", other).getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; };
  const [x, y] = middle(node);
  const along = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const linked = new Set($$(".edge").flatMap(({ dataset }) => dataset.from === node.dataset.key ? [dataset.to] : dataset.to === node.dataset.key ? [dataset.from] : []));
  let best = null, least = Infinity;
  for (const other of $$(".graph--full .node")) {
    if (other === node) continue;
    const [ox, oy] = middle(other);
    const ahead = (ox - x) * along[0] + (oy - y) * along[1];
    const aside = Math.abs((ox - x) * along[1]) + Math.abs((oy - y) * along[0]);
    if (ahead < 8) continue;
    const cost = ahead + aside * 2 - (linked.has(other.dataset.key) ? 1000 : 0);
    if (cost < least) [best, least] = [other, cost];
  }
  best?.focus();
  best?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const tab = target.closest?.("[role=tab]");
  if (tab && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) {
    const all = $$("[role=tab]", tab.parentElement);
    const place = all.indexOf(tab);
    const next = { ArrowLeft: all.at(place - 1), ArrowRight: all[(place + 1) % all.length], Home: all[0], End: all.at(-1) }[key];
    select(next); next.focus(); event.preventDefault();
    return;
  }
  const node = target.closest?.(".graph--full .node");
  if (node && key.startsWith("Arrow")) { event.preventDefault(); neighbour(node, key); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches?.("input:not([type=checkbox]), textarea, select") || keysOff?.checked || $("dialog[open]")) return;
  const go = Date.now() - gAt < 1200 && { o: "overview", r: "runs", d: "dead", w: "workers" }[key];
  gAt = 0;
  if (go) { const link = $(`.nav [data-nav="${go}"]`); if (link) location.assign(link.href); return; }
  if (key === "g") { gAt = Date.now(); return; }
  if (key === "/") {
    const box = $("main [type=search]:not([data-filter])") ?? $(".jump");
    if (box) { event.preventDefault(); box.focus(); box.select?.(); }
    return;
  }
  if (key === "?") { openDialog("dlg-keys"); return; }
  if (key === "e" && byId("tab-errors")) { select(byId("tab-errors")); byId("tab-errors").focus(); return; }
  if (key === "l" && byId("tab-logs")) { select(byId("tab-logs")); byId("tab-logs").focus(); return; }
  if (key === "Escape" && $("[data-drawer-close]")) { visit(new URL($("[data-drawer-close]").href)); return; }
  const rows = $$("main tbody .c-name a, main .steplist > li > a");
  if ((key === "j" || key === "k") && rows.length) { event.preventDefault(); step(rows, target, rows.includes(target) ? (key === "j" ? 1 : -1) : 0); if (!rows.includes(target)) rows[0].focus(); return; }
  const box = key === "x" && target.closest?.("tr")?.querySelector(".check");
  if (box) { box.checked = !box.checked; countChosen(); }
});
const shown = location.hash && byId(`tab-${location.hash.slice(1)}`);
if (shown) select(shown);
root.dataset.ready = "yes";

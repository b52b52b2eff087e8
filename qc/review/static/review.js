// The review page: shows nodules, takes verdicts, keeps the next nodule ready.

import { paintLegend } from "./legend.js";
import { Outbox, newId } from "./outbox.js";
import { Viewer, WINDOWS, firstLook } from "./viewer.js";
import { fetchVolume } from "./volume.js";

const find = (id) => document.getElementById(id);
const { reviewer, csrfToken } = document.body.dataset;
const [head, side, toast, announcer] = ["head", "side", "toast", "announcer"].map(find);
const [discardDialog, helpDialog] = ["discard", "help"].map(find);
const KEPT = 4;
const SINGLE_KEYS = "halosign-single-keys";

const ready = new Map(); // address of a view's JSON -> promise of { view, volume }
const undoable = []; // my verdicts of this visit, newest last
const visited = []; // addresses of the nodules before this one
let now = null; // { view, volume } on the screen
let shownAt = 0, hiddenFor = 0, hiddenAt = 0;
let coming = 0, arrived = 0; // numbers of the last nodule asked for and of the last shown
let showsAll = false; // whether the options that answer the other question are shown too
let finished = false; // whether the rater has answered the last nodule of a study
let missed = null; // the nodule that could not be shown while the server was away

const viewer = new Viewer(find("planes"), find("strip"), {
  onActive(plane) {
    if (plane !== "solid" && plane !== viewer.active) {
      viewer.active = plane;
      viewer.schedule();
    }
  },
  onState: showState,
});

const outbox = new Outbox(reviewer, csrfToken, {
  onChange(count, away, strange) {
    find("saved").textContent = strange
      ? "Please sign in again"
      : away ? `Server not reachable; ${count} waiting` : count ? "Saving…" : "Saved";
    find("saved").classList.toggle("alarm", Boolean(away));
    if (missed && !away && !count) show(...missed);
  },
  async onStored(verdict) {
    if (finished && !outbox.waiting.length) {
      location.assign(`/study/${now.view.study}`);
      return;
    }
    ready.delete(apiAddress(now?.view.address ?? ""));
    if (now) await refreshHead();
    const isHere = now?.view.nodule === verdict.nodule && coming === arrived;
    if (verdict.verdict === "undo" && isHere) await show(apiAddress(now.view.address), { again: true });
  },
  onRefused(verdict, error) {
    finished = false;
    const place = undoable.findIndex((one) => one.id === verdict.id);
    if (place >= 0) undoable.splice(place, 1);
    notify(`Not recorded (${verdict.nodule}): ${error}`, true);
  },
});

function apiAddress(address) {
  return `/api${address}`;
}

// Fetches a nodule with its images, once.
function prepare(api) {
  if (!ready.has(api)) {
    const promise = fetch(api).then(async (answer) => {
      if (answer.status === 401) location.reload(); // leads to the sign-in and back to this page
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `error ${answer.status}`);
      const view = await answer.json();
      return { view, volume: await fetchVolume(view) };
    });
    promise.catch(() => ready.delete(api));
    ready.set(api, promise);
    while (ready.size > KEPT) ready.delete(ready.keys().next().value);
  }
  return ready.get(api);
}

async function show(api, { push = false, again = false, begun = 0 } = {}) {
  const turn = ++coming;
  let next;
  missed = null;
  try {
    next = await prepare(api);
  } catch (error) {
    if (turn === coming) arrived = turn;
    if (outbox.waiting.length) missed = [api, { push, again }];
    notify(`The nodule could not be shown: ${error.message}`, true);
    return;
  }
  if (turn !== coming) return;
  if (push && now) {
    visited.push(now.view.address);
    history.pushState(null, "", next.view.address);
  }
  const before = now;
  now = next;
  arrived = turn;
  head.innerHTML = next.view.head;
  side.innerHTML = next.view.side;
  showOptions(showsAll || needsAll(next.view));
  document.title = `${next.view.study || next.view.nodule} · Halosign`;
  if (!again || before?.volume !== next.volume) await viewer.show(next.volume, next.view.options);
  if (begun) performance.measure("next-nodule", { start: begun });
  [shownAt, hiddenFor] = [performance.now(), 0];
  fillAgainst();
  showButtons();
  document.body.dataset.shown = next.view.nodule;
  announcer.textContent = `${next.view.study ? "Next nodule" : next.view.nodule}, ${shownOptions().length} candidates`;
  prefetch();
}

// Keeps the next nodule ready; says in the page which one it is.
function prefetch() {
  if (!now.view.next) return;
  prepare(now.view.next).then(({ view, volume }) => {
    viewer.prepare(volume, view.options);
    document.body.dataset.ready = view.nodule;
  }, () => {});
}

// Takes over what changed on the server, without disturbing what the reviewer does.
async function refreshHead() {
  const { view } = now;
  const answer = await fetch(apiAddress(view.address)).catch(() => null);
  if (!answer?.ok || now.view !== view) return;
  const fresh = await answer.json();
  if (now.view !== view) return;
  head.innerHTML = fresh.head;
  Object.assign(view, { next: fresh.next, previous: fresh.previous });
  showButtons();
  prefetch();
}

function showButtons() {
  find("previous").disabled = !now.view.previous && !visited.length;
  find("next").disabled = !now.view.next;
  const blind = find("blind");
  if (blind) {
    const url = new URL(now.view.address, location.origin);
    if (now.view.blind) url.searchParams.delete("blind");
    else url.searchParams.set("blind", "1");
    blind.href = url.pathname + url.search;
  }
}

function showState() {
  const { window, layers, opacity, drag, option, solidMode, bare } = viewer;
  find("window").textContent = `L ${Math.round(window.level)}  W ${Math.round(window.width)}`;
  for (const button of document.querySelectorAll("[data-layer]")) button.setAttribute("aria-pressed", layers[button.dataset.layer] && !bare);
  for (const button of document.querySelectorAll("[data-drag]")) button.setAttribute("aria-pressed", button.dataset.drag === drag);
  for (const button of document.querySelectorAll("[data-window]")) {
    const preset = WINDOWS[button.dataset.window];
    button.setAttribute("aria-pressed", preset.level === window.level && preset.width === window.width);
  }
  find("opacity").value = Math.round(opacity * 100);
  find("against").hidden = !layers.difference;
  find("against").value = String(viewer.against);
  find("solid-button").setAttribute("aria-pressed", solidMode === "mip");
  const against = now.view.options[viewer.against]?.name || `option ${viewer.against + 1}`;
  paintLegend(find("legend"), { layers, bare, against, readerCount: viewer.volume.readerCount });
  for (const row of side.querySelectorAll(".option")) row.classList.toggle("looked", Number(row.dataset.place) === option + 1);
}

// Whether the reviewer's choice is not among the first options, or none of these has a matte.
function needsAll({ options, shown_first }) {
  return options.some((option) => option.mine && option.other) || options.slice(0, shown_first).every((option) => option.missing);
}

// Shows all options, or those that answer the question.
function showOptions(all) {
  const { options, shown_first } = now.view;
  document.body.classList.toggle("first-only", !all && shown_first < options.length);
  const { length } = shownOptions(), columns = length < 4 ? length : Math.ceil(length / 2);
  find("strip").style.setProperty("--columns", columns);
  find("strip").style.setProperty("--rows", Math.ceil(length / columns));
  const button = find("all-button");
  if (!button) return;
  button.textContent = all ? `Show only ${shown_first}` : `Show all ${options.length}`;
  button.setAttribute("aria-pressed", all);
}

function shownOptions() {
  return document.body.classList.contains("first-only") ? now.view.options.slice(0, now.view.shown_first) : now.view.options;
}

function toggleAll() {
  if (!find("all-button")) return;
  showsAll = document.body.classList.contains("first-only");
  showOptions(showsAll);
  if (!showsAll && viewer.option >= now.view.shown_first) viewer.look(firstLook(shownOptions()));
  if (!showsAll && viewer.against >= now.view.shown_first) viewer.against = shownOptions().findIndex((option, place) => place !== viewer.option && !option.missing);
  fillAgainst();
  viewer.resize();
}

// Steps through the options that are shown.
function step(by) {
  const { length } = shownOptions();
  viewer.look((viewer.option + by + length) % length);
}

function fillAgainst() {
  find("against").replaceChildren(
    ...shownOptions().filter((option) => !option.missing).map((option) =>
      Object.assign(document.createElement("option"), { value: String(option.place - 1), textContent: option.name || `option ${option.place}` })),
  );
  showState();
}

function notify(words, isAlarm = false) {
  announcer.textContent = words;
  toast.textContent = words;
  toast.classList.toggle("alarm", isAlarm);
  toast.hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { toast.hidden = true; }, isAlarm ? 9000 : 3500);
}

function secondsSpent() {
  const hidden = document.hidden ? performance.now() - hiddenAt : 0;
  return Math.min(86_400, Math.max(0, performance.now() - shownAt - hiddenFor - hidden) / 1000);
}

function record(kind, more = {}) {
  const { nodule, digest, blind, study } = now.view;
  const note = find("note").value;
  const verdict = { id: newId(), reviewer, nodule, digest, verdict: kind, note, seconds: secondsSpent(), blind, study, target: study ? null : now.view.target, ...more };
  if (kind !== "undo") undoable.push({ id: verdict.id, nodule, digest, address: now.view.address });
  ready.delete(apiAddress(now.view.address));
  outbox.add(verdict);
}

function openNext(words, begun) {
  if (now.view.next) {
    notify(words);
    return show(now.view.next, { push: true, begun });
  }
  notify(`${words} That was the last nodule of this list.`);
  // The study's page says thank you once the server has every answer, or what is left to decide.
  finished = Boolean(now.view.study);
  if (finished) return outbox.send();
  return outbox.send().then(() => show(apiAddress(now.view.address), { again: true }));
}

function choose(place) {
  const begun = performance.now();
  const option = now?.view.options[place - 1];
  if (!option) return;
  if (!shownOptions().includes(option)) {
    notify(`Candidate ${place} is not shown: press A for all ${now.view.options.length}.`, true);
    return;
  }
  if (option.missing) {
    notify(`Candidate ${place} has no matte.`, true);
    return;
  }
  record("choose", { place });
  openNext(`${place}${option.name ? ` (${option.name})` : ""} chosen.`, begun);
}

// Shows an option; one of those that are not shown brings all of them.
function look(place) {
  const option = now.view.options[place - 1];
  if (option && !shownOptions().includes(option)) toggleAll();
  viewer.look(place - 1);
}

function discard(reason) {
  const begun = performance.now();
  discardDialog.close();
  if (reason === "other" && !find("note").value.trim()) {
    find("note").focus();
    notify("Write the reason into the note, then discard again.", true);
    return;
  }
  record("discard", { reason });
  openNext("Discarded.", begun);
}

async function undo() {
  let last = undoable.pop();
  if (!last) {
    await outbox.send();
    const study = now.view.study;
    const answer = await fetch(study ? `/api/study-last/${study}` : "/api/last").then((r) => r.json()).catch(() => ({}));
    if (!answer.id) {
      notify("There is no verdict to undo.");
      return;
    }
    const path = study ? `/study/${study}/${answer.nodule}` : `/nodule/${answer.nodule}${new URL(now.view.address, location.origin).search}`;
    last = { ...answer, address: path };
  }
  if (now.view.nodule !== last.nodule) {
    await show(apiAddress(last.address));
    history.pushState(null, "", last.address);
  }
  outbox.add({
    id: newId(), reviewer, nodule: last.nodule, digest: last.digest, verdict: "undo", undoes: last.id,
    seconds: 0, blind: now.view.blind, study: now.view.study,
  });
  notify("Your last verdict is undone.");
}

function goBack() {
  const address = visited.pop();
  if (address) {
    show(apiAddress(address)).then(() => history.pushState(null, "", address));
  } else if (now?.view.previous) show(now.view.previous).then(() => history.pushState(null, "", now.view.address));
}

function toggleLayer(name) {
  if (!(name in viewer.layers) || (now.view.study && (name === "readers" || name === "trimap"))) return;
  viewer.layers[name] = !viewer.layers[name];
  viewer.schedule();
}

function toggleGrid() {
  const on = document.body.classList.toggle("grid");
  find("grid-button").setAttribute("aria-pressed", on);
  viewer.resize();
}

function toggleSolid() {
  viewer.solidMode = viewer.solidMode === "mip" ? "surface" : "mip";
  viewer.schedule();
}

function setWindow(name) {
  viewer.window = { ...WINDOWS[name] };
  viewer.schedule();
}

function flag() {
  record("flag");
  notify("Flagged for a second look.");
}

function arrow(key) {
  const onSolid = document.activeElement?.dataset?.plane === "solid";
  if (key === "ArrowUp" || key === "ArrowDown") {
    if (onSolid) viewer.turnBy(0, key === "ArrowUp" ? -0.15 : 0.15);
    else viewer.scroll(viewer.active, key === "ArrowUp" ? -1 : 1);
  } else if (onSolid) viewer.turnBy(key === "ArrowLeft" ? -0.15 : 0.15, 0);
  else if (key === "ArrowRight") {
    if (now.view.next) show(now.view.next, { push: true });
  } else goBack();
}

const ACTIONS = {
  n: () => find("note").focus(),
  a: toggleAll,
  u: undo,
  g: toggleGrid,
  v: toggleSolid,
  l: () => setWindow("lung"),
  k: () => setWindow("mediastinum"),
  m: () => toggleLayer("matte"),
  i: () => toggleLayer("iso"),
  r: () => toggleLayer("readers"),
  t: () => toggleLayer("trimap"),
  d: () => toggleLayer("difference"),
  c: () => { viewer.cross = !viewer.cross; viewer.schedule(); },
  h: () => { viewer.bare = true; viewer.schedule(); },
  "[": () => step(-1),
  "]": () => step(1),
  "+": () => viewer.zoomBy(1.2),
  "=": () => viewer.zoomBy(1.2),
  "-": () => viewer.zoomBy(1 / 1.2),
  0: () => viewer.resetView(),
  "?": () => helpDialog.showModal(),
  ArrowUp: () => arrow("ArrowUp"),
  ArrowDown: () => arrow("ArrowDown"),
  ArrowLeft: () => arrow("ArrowLeft"),
  ArrowRight: () => arrow("ArrowRight"),
  PageUp: () => viewer.scroll(viewer.active, -5),
  PageDown: () => viewer.scroll(viewer.active, 5),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !now) return;
  if (discardDialog.open) {
    const button = discardDialog.querySelectorAll("[data-reason]")[Number(event.key) - 1];
    if (button) { event.preventDefault(); discard(button.dataset.reason); }
    return;
  }
  if (helpDialog.open) return;
  const { target } = event;
  if (target.matches("textarea, select, input:not([type=range])")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const isArrow = event.key.startsWith("Arrow") || event.key.startsWith("Page");
  if (target.matches("input[type=range]") && isArrow) return;
  if (!isArrow && localStorage.getItem(SINGLE_KEYS) === "off") return;
  const digit = /^Digit([1-9])$/.exec(event.code) ?? /^Numpad([1-9])$/.exec(event.code);
  let action = ACTIONS[event.key] ?? ACTIONS[event.key.toLowerCase()];
  if (!now.view.study && event.key.toLowerCase() === "x") action = () => discardDialog.showModal();
  if (!now.view.study && event.key.toLowerCase() === "f") action = flag;
  if (digit) action = () => (event.shiftKey ? look(Number(digit[1])) : choose(Number(digit[1])));
  if (!action || (event.repeat && !isArrow && !"+-=".includes(event.key))) return;
  event.preventDefault();
  action();
});

document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h" && viewer.bare) {
    viewer.bare = false;
    viewer.schedule();
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button, .option");
  if (!button || !now) return;
  const { look: looked, choose: place, layer, drag, window: preset, reason } = button.dataset;
  if (place) choose(Number(place));
  else if (looked) look(Number(looked));
  else if (layer) toggleLayer(layer);
  else if (drag) { viewer.drag = drag; viewer.schedule(); }
  else if (preset) setWindow(preset);
  else if (reason) discard(reason);
  else if ("close" in button.dataset) button.closest("dialog").close();
  else if (button.dataset.place) viewer.look(button.dataset.place - 1);
  else {
    const actions = {
      previous: goBack, next: () => arrow("ArrowRight"), "discard-button": () => discardDialog.showModal(),
      "flag-button": flag, "undo-button": undo, "grid-button": toggleGrid, "solid-button": toggleSolid,
      "help-button": () => helpDialog.showModal(), "all-button": toggleAll,
    };
    actions[button.id]?.();
  }
});

find("strip").addEventListener("dblclick", (event) => {
  const thumb = event.target.closest("[data-look]");
  if (thumb) choose(Number(thumb.dataset.look));
});
find("opacity").addEventListener("input", (event) => { viewer.opacity = event.target.value / 100; viewer.schedule(); });
find("against").addEventListener("change", (event) => { viewer.against = Number(event.target.value); viewer.schedule(); });
const singleKeys = find("single-keys");
singleKeys.checked = localStorage.getItem(SINGLE_KEYS) !== "off";
singleKeys.addEventListener("change", () => localStorage.setItem(SINGLE_KEYS, singleKeys.checked ? "on" : "off"));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else hiddenFor += performance.now() - hiddenAt;
});
window.addEventListener("popstate", () => show(apiAddress(location.pathname + location.search)));

// The server put the first nodule into the page; only its images are fetched.
const first = JSON.parse(find("view").textContent);
ready.set(apiAddress(first.address), fetchVolume(first).then((volume) => ({ view: first, volume })));
show(apiAddress(first.address));
outbox.send();

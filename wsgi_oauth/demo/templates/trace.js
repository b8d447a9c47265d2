// Draws new messages while they are exchanged. Without this script, reloading the page shows the same.
"use strict";

const status = document.getElementById("status");

const episodes = document.getElementById("episodes");

async function update() {
  const url = new URL(location.href);
  url.searchParams.set("after", episodes.dataset.last);
  const response = await fetch(url, {cache: "no-store"});
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const sections = [...fresh.querySelectorAll("section.episode")];
  if (!sections.length) return;
  // The newest is the first on the page, so begin with the oldest.
  for (const section of sections.reverse()) {
    const old = document.getElementById(section.id);
    if (!old) {
      episodes.prepend(section);
      continue;
    }
    for (const part of [".heading", ".parties"]) {
      if (!old.querySelector(part).isEqualNode(section.querySelector(part))) {
        old.querySelector(part).replaceWith(section.querySelector(part));
      }
    }
    old.className = section.className;
    for (const item of section.querySelectorAll("ol.diagram > li")) {
      const known = document.getElementById(item.id);
      if (!known) {
        old.querySelector("ol.diagram").append(item);
      } else if (item.querySelector(".step") && !known.querySelector(".step")) {
        known.querySelector("summary").prepend(item.querySelector(".step"));
      }
    }
  }
  episodes.dataset.last = fresh.getElementById("episodes").dataset.last;
  document.getElementById("empty").hidden = true;
  document.getElementById("fold").hidden = false;
  status.textContent = `${document.querySelectorAll("ol.diagram > li").length} messages so far.`;
}

// One update at a time, and one more for all events that arrive meanwhile.
let running = null;
let again = false;
async function follow() {
  again = true;
  if (running) return;
  running = true;
  while (again) {
    again = false;
    await update().catch(() => {});
  }
  running = null;
}

// Only while the page is visible: a browser has at most six connections to a server, which is also the provider.
let events = null;
function connect() {
  if (document.hidden) {
    events?.close();
    events = null;
  } else if (!events) {
    events = new EventSource("/trace/events");
    events.onmessage = follow;
  }
}
document.addEventListener("visibilitychange", connect);
connect();

// Print everything, and close again what was closed.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
});
document.getElementById("fold").addEventListener("click", (event) => {
  const all = [...document.querySelectorAll("ol.diagram > li > details")];
  const opens = !all.some((each) => each.open);
  for (const each of all) each.open = opens;
  event.currentTarget.setAttribute("aria-pressed", String(opens));
});
document.getElementById("fold").hidden = !document.querySelector("ol.diagram > li");

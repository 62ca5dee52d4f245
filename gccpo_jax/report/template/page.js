"use strict";
let cards, texts;
const search = document.getElementById("search");
const buttons = [...document.querySelectorAll("[data-filter]")];
const theme = document.getElementById("theme");
const root = document.documentElement;

function index() {
  cards = [...document.querySelectorAll(".card")];
  texts = new Map();
  const marked = cards.map((card) => card.dataset.marks.split(" "));
  for (const button of buttons) {
    const mark = button.dataset.filter;
    const count = marked.filter((own) => own.includes(mark)).length;
    button.textContent = `${mark} (${count})`;
    button.disabled = !count;
  }
}

// What a search looks at: read when it is first asked for.
function textOf(card) {
  if (!texts.has(card)) {
    texts.set(card, (card.textContent + " " + card.closest(".group").querySelector(".question").textContent).toLowerCase());
  }
  return texts.get(card);
}

// A trajectory is shown if it has one of the pressed marks and the text that is looked for.
function update() {
  const marks = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.filter);
  const asked = search.value.trim().toLowerCase();
  let shown = 0;
  for (const card of cards) {
    const own = card.dataset.marks.split(" ");
    card.hidden = (marks.length > 0 && !marks.some((mark) => own.includes(mark))) || (asked !== "" && !textOf(card).includes(asked));
    shown += !card.hidden;
  }
  for (const group of document.querySelectorAll(".group")) {
    group.hidden = !group.querySelector(".card:not([hidden])");
  }
  document.getElementById("count").textContent = `${shown} of ${cards.length} trajectories`;
}

function showTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme.setAttribute("aria-pressed", String(dark));
  return dark;
}

function toggleTheme() {
  root.dataset.theme = showTheme() ? "light" : "dark";
  showTheme();
}

function move(by) {
  const shown = cards.filter((card) => !card.hidden);
  if (!shown.length) return;
  const now = shown.indexOf(document.activeElement.closest(".card"));
  const next = now < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.min(Math.max(now + by, 0), shown.length - 1);
  shown[next].focus();
}

const keys = {
  j: () => move(1),
  k: () => move(-1),
  d: toggleTheme,
  "/": () => search.focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    search.value = "";
    buttons.forEach((b) => b.setAttribute("aria-pressed", "false"));
    update();
  } else if (event.target !== search && keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    update();
  });
}
// What a token's title says, where a mouse or the Tab key is.
for (const kind of ["focusin", "mouseover"]) {
  document.addEventListener(kind, (event) => {
    if (event.target.matches && event.target.matches(".tokens span")) {
      event.target.parentElement.nextElementSibling.textContent = event.target.getAttribute("aria-label");
    }
  });
}
search.addEventListener("input", update);
theme.addEventListener("click", toggleTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
showTheme();
index();
update();

// Live: curves are drawn anew, questions that are not here yet come to the end.
async function takeNew(known) {
  const state = await (await fetch("state")).text();
  if (state === known) return state;
  const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  for (const part of fresh.querySelectorAll("[data-fresh]")) document.getElementById(part.id).replaceWith(part);
  for (const group of fresh.querySelectorAll(".group")) {
    if (!document.getElementById(group.id)) document.getElementById("groups").append(group);
  }
  index();
  update();
  return state;
}
if ("live" in document.body.dataset) {
  let known = "";
  const ask = async () => {
    try { known = await takeNew(known); } catch { /* the server has ended; what is here stays */ }
    setTimeout(ask, 2000);
  };
  ask();
}

// The keys that stand on the buttons. Everything also works without this file.
"use strict";

const form = document.getElementById("vote");
const fields = [...document.querySelectorAll("fieldset")];
let sent = false;

// A letter by what it prints where that is Latin, else by its place: with a Chinese input method on, A is still A.
function letter(event) {
  if (/^[a-z0-9]$/i.test(event.key)) return event.key.toUpperCase();
  if (event.key === "Enter" || event.key === "Backspace") return event.key;
  return event.code.replace(/^(Key|Digit|Numpad)/, "");
}

function open() {
  return fields.findIndex((field) => !field.querySelector("input:checked"));
}

function mark(at) {
  fields.forEach((field, number) => field.classList.toggle("now", number === at));
  if (fields[at]) fields[at].scrollIntoView({ block: "nearest" });
}

function rate(key) {
  const at = open();
  const input = at < 0 ? null : fields[at].querySelector(`input[data-key="${key}"]`);
  if (input) input.checked = true;
  mark(open());
}

function back() {
  const rated = fields.filter((field) => field.querySelector("input:checked"));
  if (rated.length) rated[rated.length - 1].querySelector("input:checked").checked = false;
  mark(open());
}

function note() {
  const box = document.querySelector("details.note");
  if (!box) return;
  box.open = true;
  box.querySelector("textarea").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.tagName === "TEXTAREA") {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const key = letter(event);
  if (key === "Enter" && event.target.closest("button, a, summary")) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(key)}"]`);
  if (key === "N" && form) note();
  else if (button) button.click();
  else if (fields.length && /^[0-9]$/.test(key)) rate(key);
  else if (fields.length && key === "Backspace") back();
  else return;
  event.preventDefault();
});

// A second press while the first is on its way must not vote on what comes next.
document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
  document.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", "true"));
});
window.addEventListener("pageshow", () => { sent = false; });
document.addEventListener("change", () => mark(open()));
mark(open());

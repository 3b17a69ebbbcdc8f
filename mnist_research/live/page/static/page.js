// The tabs, and what they share: keyboard shortcuts, and pictures that are dropped or pasted.
import { Answer } from "./answer.js";
import { createCamera } from "./camera.js";
import { Reader } from "./reader.js";
import { createSketch } from "./sketch.js";
import { createUpload } from "./upload.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const maxBytes = Number(document.querySelector("main").dataset.maxBytes);
const panels = Object.fromEntries(
  ["draw", "camera", "upload"].map((name) => {
    const root = document.getElementById(name);
    const answer = new Answer(root.querySelector(".answer"));
    return [name, { root, answer, reader: new Reader(answer, root.querySelector(".outline")) }];
  }),
);
const { draw, camera, upload } = panels;
const sketch = createSketch(draw.root, draw.reader);
const { stop } = createCamera(camera.root, camera.reader);
const { show } = createUpload(upload.root, upload.reader, upload.answer, maxBytes);

// Toggle buttons: large type, and the ink for and against the answer.
function toggle(name, change) {
  const button = document.querySelector(`.top [name=${name}]`);
  button.addEventListener("click", () => {
    const isOn = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", isOn);
    change(isOn);
  });
}
toggle("projector", (isOn) => document.documentElement.classList.toggle("projector", isOn));
toggle("why", (isOn) => {
  for (const { reader } of Object.values(panels)) reader.explain(isOn);
});

function open(name) {
  for (const tab of tabs) {
    const isOpen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", isOpen);
    tab.tabIndex = isOpen ? 0 : -1;
  }
  for (const [other, { root }] of Object.entries(panels)) root.hidden = other !== name;
  if (name !== "camera") stop();
}

function moveFocus(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  if (!(event.key in steps)) return;
  const index = tabs.indexOf(event.target) + steps[event.key];
  const tab = tabs.at(index % tabs.length);
  tab.focus();
  open(tab.getAttribute("aria-controls"));
}

for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", moveFocus);
}

document.addEventListener("keydown", (event) => {
  if (draw.root.hidden || !(event.ctrlKey || event.metaKey)) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) sketch.redo();
  else sketch.undo();
});

// Pictures may be pasted or dropped anywhere on the page.
function showFirst(event, { files }) {
  if (files.length === 0) return;
  event.preventDefault();
  open("upload");
  show(files[0]);
}

document.addEventListener("paste", (event) => showFirst(event, event.clipboardData));
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dragging");
  showFirst(event, event.dataTransfer);
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});

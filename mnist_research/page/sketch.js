// A sheet to draw on. The component's value is the drawing as a data URL, null where it is blank;
// it changes while a stroke is drawn.
const sheet = element.querySelector("canvas");
const pen = sheet.getContext("2d");
const strokes = []; // Each a list of points [x, y] in pixels of the sheet.
let due = null;

function draw() {
  pen.fillStyle = "white";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.strokeStyle = "#1F2933";
  pen.lineWidth = sheet.width / 15;
  pen.lineCap = pen.lineJoin = "round";
  for (const stroke of strokes) {
    pen.beginPath();
    pen.moveTo(...stroke[0]);
    // Curves through the middles of the lines between points: a quick hand leaves few.
    stroke.forEach(([x, y], i) => {
      const [nextX, nextY] = stroke[i + 1] ?? [x, y];
      pen.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    });
    pen.stroke();
  }
}

function send() {
  due = null;
  props.value = strokes.length ? sheet.toDataURL() : null;
  trigger("input");
}

function changed() {
  draw();
  // Encoding the sheet takes longer than a pen's move.
  due ??= setTimeout(send, 60);
}

function add(event) {
  const shown = sheet.getBoundingClientRect();
  const scale = sheet.width / shown.width;
  strokes.at(-1).push([(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale]);
  changed();
}

sheet.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  sheet.setPointerCapture(event.pointerId);
  strokes.push([]);
  add(event);
});
sheet.addEventListener("pointermove", (event) => {
  if (sheet.hasPointerCapture(event.pointerId)) add(event);
});
element.querySelector("[name=undo]").addEventListener("click", () => {
  strokes.pop();
  changed();
});
element.querySelector("[name=clear]").addEventListener("click", () => {
  strokes.length = 0;
  changed();
});
draw();

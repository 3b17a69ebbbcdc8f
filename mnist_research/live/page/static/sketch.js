// A sheet to draw on: it is read while a stroke is drawn.
const DELAY = 60; // Milliseconds: encoding the sheet takes longer than a pen's move.
const INK = "#1f2933";

function drawStroke(pen, points) {
  pen.beginPath();
  pen.moveTo(...points[0]);
  // Curves through the middles of the lines between points: a quick hand leaves few.
  points.forEach(([x, y], i) => {
    const [nextX, nextY] = points[i + 1] ?? [x, y];
    pen.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  });
  pen.stroke();
}

// Makes the sheet in `root` alive. Returns the functions undo, redo and clear.
export function createSketch(root, reader) {
  const sheet = root.querySelector("canvas");
  const pen = sheet.getContext("2d");
  const buttons = Object.fromEntries(
    ["undo", "redo", "clear"].map((name) => [name, root.querySelector(`[name=${name}]`)]),
  );
  // What was on the sheet after each change: strokes, each a list of points [x, y] in its pixels.
  const drawings = [[]];
  let shown = 0;
  let due = null;

  function draw() {
    pen.fillStyle = "white";
    pen.fillRect(0, 0, sheet.width, sheet.height);
    pen.strokeStyle = INK;
    pen.lineWidth = sheet.width / 15;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of drawings[shown]) drawStroke(pen, stroke);
    buttons.undo.disabled = shown === 0;
    buttons.redo.disabled = shown === drawings.length - 1;
    buttons.clear.disabled = drawings[shown].length === 0;
  }

  function send() {
    due = null;
    if (drawings[shown].length === 0) return reader.forget();
    reader.read(() => new Promise((done) => sheet.toBlob(done)));
  }

  function changed() {
    draw();
    due ??= setTimeout(send, DELAY);
  }

  function add(drawing) {
    shown += 1;
    drawings.splice(shown, Infinity, drawing);
    changed();
  }

  function turnTo(index) {
    if (!drawings[index]) return;
    shown = index;
    changed();
  }

  function place(event) {
    const { left, top, width } = sheet.getBoundingClientRect();
    const scale = sheet.width / width;
    return [(event.clientX - left) * scale, (event.clientY - top) * scale];
  }

  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    sheet.setPointerCapture(event.pointerId);
    add([...drawings[shown], [place(event)]]);
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!sheet.hasPointerCapture(event.pointerId)) return;
    drawings[shown].at(-1)?.push(place(event));
    changed();
  });

  const undo = () => turnTo(shown - 1);
  const redo = () => turnTo(shown + 1);
  const clear = () => drawings[shown].length && add([]);
  buttons.undo.addEventListener("click", undo);
  buttons.redo.addEventListener("click", redo);
  buttons.clear.addEventListener("click", clear);
  draw();
  return { undo, redo, clear };
}

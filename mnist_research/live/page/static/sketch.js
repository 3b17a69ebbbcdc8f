// A sheet to draw on, which is read while the user draws.
const DELAY = 60; // Milliseconds between readings: encoding the sheet takes longer than a pen move.
const STEP = 20; // How far an arrow key moves the pen, in pixels of the sheet.
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
// Chalk on a blackboard in dark mode; the model reads both.
const DARK = matchMedia("(prefers-color-scheme: dark)");
const paper = () => (DARK.matches ? "#1d242c" : "white");
const ink = () => (DARK.matches ? "#f2f4f7" : "#1f2933");

function drawStroke(pen, points) {
  pen.beginPath();
  pen.moveTo(...points[0]);
  // Curves through the midpoints between points, because fast strokes have few points.
  points.forEach(([x, y], i) => {
    const [nextX, nextY] = points[i + 1] ?? [x, y];
    pen.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  });
  pen.stroke();
}

// Connects the sheet in `root`. Returns the functions undo, redo and clear.
export function createSketch(root, reader) {
  const sheet = root.querySelector("canvas");
  const pen = sheet.getContext("2d");
  const buttons = Object.fromEntries(
    ["undo", "redo", "clear"].map((name) => [name, root.querySelector(`[name=${name}]`)]),
  );
  // The drawing after each change: a list of strokes, each a list of points [x, y] in pixels.
  const drawings = [[]];
  let shown = 0;
  let timer = null;
  const cursor = [sheet.width / 2, sheet.height / 2];
  let isDown = false;

  function draw() {
    pen.fillStyle = paper();
    pen.fillRect(0, 0, sheet.width, sheet.height);
    pen.strokeStyle = ink();
    pen.lineWidth = sheet.width / 15;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of drawings[shown]) drawStroke(pen, stroke);
    buttons.undo.disabled = shown === 0;
    buttons.redo.disabled = shown === drawings.length - 1;
    buttons.clear.disabled = drawings[shown].length === 0;
  }

  function picture() {
    draw();
    const blob = new Promise((done) => sheet.toBlob(done));
    blob.then(() => document.activeElement === sheet && usesKeys && drawCursor());
    return blob;
  }

  function send() {
    timer = null;
    if (drawings[shown].length > 0) return reader.read(picture);
    reader.forget();
    if (document.activeElement === sheet && usesKeys) drawCursor();
  }

  // The pen's position for keyboard users. It is drawn after the sheet was sent: it isn't ink.
  let usesKeys = false;
  function drawCursor() {
    pen.save();
    pen.lineWidth = 3;
    pen.strokeStyle = isDown ? "#d55e00" : "#0072b2";
    pen.beginPath();
    pen.arc(...cursor, 16, 0, 2 * Math.PI);
    pen.stroke();
    pen.restore();
  }

  function changed() {
    draw();
    timer ??= setTimeout(send, DELAY);
  }

  function add(drawing) {
    shown += 1;
    drawings.splice(shown, Infinity, drawing);
    changed();
  }

  function goTo(index) {
    if (!drawings[index]) return;
    shown = index;
    changed();
  }

  function position(event) {
    const { left, top, width } = sheet.getBoundingClientRect();
    const scale = sheet.width / width;
    return [(event.clientX - left) * scale, (event.clientY - top) * scale];
  }

  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    sheet.setPointerCapture(event.pointerId);
    add([...drawings[shown], [position(event)]]);
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!sheet.hasPointerCapture(event.pointerId)) return;
    drawings[shown].at(-1)?.push(position(event));
    changed();
  });

  sheet.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (!move && ![" ", "Backspace", "Escape"].includes(event.key)) return;
    event.preventDefault();
    usesKeys = true;
    if (event.key === "Backspace") {
      isDown = false;
      return undo();
    }
    if (event.key === "Escape") isDown = false;
    if (event.key === " ") {
      isDown = !isDown;
      if (isDown) return add([...drawings[shown], [[...cursor]]]);
    }
    if (move) {
      move.forEach((step, axis) => {
        cursor[axis] = Math.min(sheet.width - STEP, Math.max(STEP, cursor[axis] + STEP * step));
      });
      if (isDown) drawings[shown].at(-1)?.push([...cursor]);
    }
    changed();
  });
  sheet.addEventListener("pointerdown", () => {
    usesKeys = isDown = false;
  });
  sheet.addEventListener("blur", () => {
    isDown = usesKeys = false;
    draw();
  });
  DARK.addEventListener("change", changed);

  const undo = () => goTo(shown - 1);
  const redo = () => goTo(shown + 1);
  const clear = () => drawings[shown].length && add([]);
  buttons.undo.addEventListener("click", undo);
  buttons.redo.addEventListener("click", redo);
  buttons.clear.addEventListener("click", clear);
  draw();
  return { undo, redo, clear };
}

// The answer panel: the digit, the network's input, a bar for each probability, a note.
const template = document.querySelector("#answer");

// Never shows 0% or 100%, because a model is never certain.
function percent(share) {
  if (share >= 0.9995) return ">99.9%";
  if (share < 0.0005) return "<0.1%";
  return `${(100 * share).toFixed(1)}%`;
}

export class Answer {
  #root;
  #hint;

  // `root` is an empty element; its data-hint tells the user what to do before the first picture.
  constructor(root) {
    root.append(template.content.cloneNode(true));
    this.#root = root;
    this.#hint = root.dataset.hint;
    this.blank();
  }

  // Shows the server's answer.
  show({ state, digits, tallest, number, note }) {
    this.#fill(state, digits[tallest], note, number);
  }

  blank() {
    this.#fill("blank", undefined, this.#hint);
  }

  // Shows why there is no answer.
  problem(sentence) {
    this.#fill("problem", undefined, sentence);
  }

  #fill(state, digit, note, number) {
    this.#root.dataset.state = state;
    const label = this.#find(".label");
    const isRefused = state === "refused";
    const isNumber = number?.length > 1 && !isRefused;
    const name = isRefused ? "?" : isNumber ? number : (digit?.label_name ?? "?");
    // Unchanged text must not be set again: screen readers would repeat it.
    if (label.textContent !== name) label.textContent = name;
    label.classList.toggle("number", isNumber);
    label.classList.toggle("word", !isNumber && name.length > 1);
    this.#find(".probability").textContent =
      isRefused ? "not a digit" : digit && !isNumber ? percent(digit.probability) : "";
    this.#showImage(".model-input .frame", digit?.image, "The network's input");
    this.#find(".why").hidden = !digit?.evidence;
    this.#showImage(".why .frame", digit?.evidence, "The ink for and against the answer");
    this.#root.querySelectorAll(".bars li").forEach((bar, index) => {
      this.#bar(bar, digit, index);
      if (isRefused) bar.classList.remove("best");
    });
    const line = this.#find(".note");
    line.role = state === "problem" ? "alert" : null;
    line.textContent = note;
  }

  #showImage(selector, image, alt) {
    const frame = this.#find(selector);
    if (!image) return frame.replaceChildren();
    if (!frame.firstChild) frame.append(Object.assign(new Image(), { alt }));
    frame.firstChild.src = image;
  }

  #bar(bar, digit, index) {
    const share = digit?.probabilities[index] ?? 0;
    bar.classList.toggle("best", digit !== undefined && share === digit.probability);
    bar.querySelector("b").style.width = `${100 * share}%`;
    bar.lastElementChild.textContent = digit ? percent(share) : "";
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}

// Sends pictures to the server, one at a time, and shows its answers.
const BUSY = 503;
const SECONDS_TO_RETRY = 1;
const NO_RESPONSE = "The page's command doesn't respond. Restart it, then reload the page.";

async function send(picture, why) {
  const response = await fetch(why ? "read?why" : "read", {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    credentials: "same-origin",
    body: picture,
  });
  return { status: response.status, ...(await response.json()) };
}

export class Reader {
  #answer;
  #outline;
  #next = null; // The latest request that hasn't been sent.
  #isSending = false;
  #round = 0;
  #last = null; // The last answered request.
  #why = false;

  // `answer` shows the answers; `outline`, if given, is an SVG element on top of the picture.
  constructor(answer, outline = null) {
    this.#answer = answer;
    this.#outline = outline;
  }

  // Reads a picture once the previous answer has arrived, unless there is a newer picture by then.
  // `take` returns a Blob or a promise of one; `name` is its name in error messages.
  read(take, name = "The file") {
    this.#next = { take, name };
    if (!this.#isSending) this.#sendAll();
  }

  // Turns the display of the ink for and against the answer on or off.
  explain(why) {
    this.#why = why;
    if (this.#last) this.read(this.#last.take, this.#last.name);
  }

  // Clears the answer; drops one that is pending.
  forget() {
    this.#round += 1;
    this.#next = this.#last = null;
    this.#answer.blank();
    this.#draw({ digits: [] });
  }

  async #sendAll() {
    this.#isSending = true;
    while (this.#next) {
      const request = this.#next;
      const round = this.#round;
      this.#next = null;
      const reply = await this.#reply(request);
      if (round !== this.#round) continue;
      this.#last = request;
      this.#show(reply, request.name);
      if (reply.status !== BUSY) continue;
      await new Promise((done) => setTimeout(done, 1000 * SECONDS_TO_RETRY));
      if (round === this.#round) this.#next ??= request;
    }
    this.#isSending = false;
  }

  async #reply({ take }) {
    try {
      return await send(await take(), this.#why);
    } catch {
      return { error: NO_RESPONSE };
    }
  }

  #show(reply, name) {
    if (reply.error) {
      this.#answer.problem(reply.error.replace(/^The file/, () => name));
      this.#draw({ digits: [] });
    } else {
      this.#answer.show(reply);
      this.#draw(reply);
    }
  }

  // Draws a rectangle around each digit, in pixels of the picture.
  #draw({ width, height, digits }) {
    if (!this.#outline) return;
    this.#outline.setAttribute("viewBox", `0 0 ${width ?? 1} ${height ?? 1}`);
    // Reuses existing rectangles, because answers arrive ten times a second.
    const rectangles = [...this.#outline.children];
    this.#outline.replaceChildren(
      ...digits.map(({ box }, index) => {
        const shape =
          rectangles[index] ?? document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const attributes = { ...box, rx: (width / 80).toFixed(1) };
        for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
        return shape;
      }),
    );
  }
}

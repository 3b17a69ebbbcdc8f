// Pictures from files and from the clipboard.

// Connects the upload in `root`. Returns the function show, which takes a file.
export function createUpload(root, reader, answer, maxBytes) {
  const screen = root.querySelector(".screen");
  const picture = screen.querySelector("img");
  const chooser = root.querySelector("input[type=file]");

  function show(file) {
    reader.forget();
    URL.revokeObjectURL(picture.src);
    picture.hidden = true;
    if (file.size > maxBytes) {
      const sizes = [file.size, maxBytes].map((bytes) => `${+(bytes / 1e6).toFixed(1)} MB`);
      answer.problem(`${file.name} has ${sizes[0]}; the limit is ${sizes[1]}.`);
      return;
    }
    picture.src = URL.createObjectURL(file);
    reader.read(() => file, file.name);
  }

  async function paste() {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((name) => name.startsWith("image/"));
        if (type) return show(new File([await item.getType(type)], "The pasted picture"));
      }
      answer.problem("The clipboard contains no picture.");
    } catch {
      answer.problem("The browser blocks access to the clipboard. Press Ctrl+V instead.");
    }
  }

  // The server can read formats that the browser can't show, such as TIFF.
  picture.addEventListener("load", () => (picture.hidden = false));
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) show(chooser.files[0]);
    // Allows the same file to be chosen again.
    chooser.value = "";
  });
  const button = root.querySelector("[name=paste]");
  button.addEventListener("click", paste);
  // On pages without HTTPS there is no clipboard API; Ctrl+V still works.
  button.hidden = !navigator.clipboard?.read;
  return { show };
}

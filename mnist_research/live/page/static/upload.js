// Pictures from files and from the clipboard.

// Makes the upload in `root` alive. Returns the function show, which takes a file.
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
      answer.problem(`${file.name} has ${sizes[0]}, and at most ${sizes[1]} are read.`);
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
      answer.problem("The clipboard holds no picture.");
    } catch {
      answer.problem("The browser keeps the clipboard back. Press Ctrl+V instead.");
    }
  }

  // What the browser can't show, such as TIFF, may be read all the same.
  picture.addEventListener("load", () => (picture.hidden = false));
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) show(chooser.files[0]);
    // So that the same file can be chosen again.
    chooser.value = "";
  });
  const button = root.querySelector("[name=paste]");
  button.addEventListener("click", paste);
  // As on pages without HTTPS. The keys still paste.
  button.hidden = !navigator.clipboard?.read;
  return { show };
}

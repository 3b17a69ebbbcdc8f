// Repeatedly reads the latest frame of a camera.
const WIDTH = 640; // The server reduces frames to less than this before finding digits.
const INTERVAL = 100; // Milliseconds between frames.
const QUALITY = 0.9;
const NOT_ALLOWED =
  "Browsers allow the camera only on HTTPS pages and on pages of this machine (127.0.0.1, " +
  "localhost): open the page there, or upload a photo.";

// Connects the camera in `root`. Returns the function stop.
export function createCamera(root, reader) {
  const video = root.querySelector("video");
  const button = root.querySelector("[name=camera]");
  const note = root.querySelector(".tools .note");
  const hint = note.textContent;
  const frame = document.createElement("canvas");
  let timer = null;

  function take() {
    frame.width = Math.min(WIDTH, video.videoWidth);
    frame.height = Math.round((frame.width * video.videoHeight) / video.videoWidth);
    frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
    return new Promise((done) => frame.toBlob(done, "image/jpeg", QUALITY));
  }

  async function show() {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: WIDTH } },
    });
    await video.play();
  }

  async function start() {
    button.disabled = true;
    note.textContent = hint;
    try {
      await show();
      timer = setInterval(() => reader.read(take), INTERVAL);
      button.textContent = "Stop the camera";
      for (const track of video.srcObject.getTracks()) track.addEventListener("ended", stop);
      // The user may have switched tabs while the browser asked for permission.
      if (root.hidden) stop();
    } catch (error) {
      stop();
      note.textContent = `No camera: ${error.message}. Connect or allow one, then start again.`;
    }
    button.disabled = false;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    button.textContent = "Start the camera";
    reader.forget();
  }

  if (!navigator.mediaDevices) {
    button.hidden = true;
    note.textContent = NOT_ALLOWED;
  }
  button.addEventListener("click", () => (timer === null ? start() : stop()));
  return { stop };
}

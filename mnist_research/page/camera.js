// A camera. The component's value is its newest frame as a data URL, null while it is off; the
// prop `outline` is laid over the frames.
const WIDTH = 640; // Digits are found on less.
const INTERVAL = 100; // Milliseconds from one frame that is read to the next.
const video = element.querySelector("video");
const button = element.querySelector("button");
const note = element.querySelector(".note");
const frame = document.createElement("canvas");
let timer = null;

function send() {
  // Nobody watches while another tab is open.
  if (!element.offsetParent) return stop();
  frame.width = Math.min(WIDTH, video.videoWidth);
  frame.height = Math.round((frame.width * video.videoHeight) / video.videoWidth);
  frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
  props.value = frame.toDataURL("image/jpeg", 0.9);
  trigger("input");
}

async function start() {
  button.disabled = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: WIDTH } },
    });
    await video.play();
    timer = setInterval(send, INTERVAL);
    button.textContent = "Stop the camera";
  } catch (error) {
    note.textContent = `No camera: ${error.message}. Plug one in, or allow it, and start again.`;
  }
  button.disabled = false;
}

function stop() {
  clearInterval(timer);
  timer = null;
  for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
  button.textContent = "Start the camera";
  props.value = null;
  trigger("input");
}

watch("outline", () => (element.querySelector(".outline").innerHTML = props.outline));
button.addEventListener("click", () => (timer ? stop() : start()));

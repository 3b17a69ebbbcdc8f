"""Reads digits that a camera sees: `python -m mnist_research.camera [--source=0]`.

Prints a JSON object on stdout whenever the answer changes: frame, seconds, label, label_name,
probability, box (x, y, width, height in pixels of the frame); the last four are null where no digit
is left. Where there is a display, a window shows the frames with the digit outlined; q or Esc
closes it. Ends with the video, or at Ctrl-C.
"""

from absl import flags, logging

from mnist_research import app, config
from mnist_research.workdir import trained_workdir

flags.adopt_module_key_flags(config)
_SOURCE = flags.DEFINE_string("source", "0", "number of a camera, or a video file")


def main(arguments: list[str]) -> None:
  """Reads the digits of a camera or a video."""
  app.refuse_arguments(arguments)
  workdir = trained_workdir(flags.FLAGS.workdir)
  settings = config.from_flags_over(workdir.trained_config())
  app.require_extra("cv2", "camera")
  from mnist_research import video

  source = video.open_video(_SOURCE.value)
  has_window = video.has_display()
  app.load_tensorflow()
  from mnist_research import frames, recognition

  recognizer = recognition.load(workdir, settings)
  logging.info("digits are read from --source=%s; Ctrl-C ends it", _SOURCE.value)
  told = None
  for frame in video.read_frames(source):
    reading = frames.read_digit(recognizer, frame.grey)
    label_name = recognizer.label_names[reading.label] if reading else None
    if label_name != told:
      told = label_name
      app.print_json(
        {
          "frame": frame.number,
          "seconds": frame.seconds,
          "label": reading.label if reading else None,
          "label_name": label_name,
          "probability": reading.probability if reading else None,
          "box": reading.box.place() if reading else None,
        }
      )
    if has_window:
      outline = frames.outline(reading) if reading else None
      text = f"{label_name} {reading.probability:.0%}" if reading else ""
      if not video.show(frame, outline, text, source.pause):
        return


if __name__ == "__main__":
  app.run(main)

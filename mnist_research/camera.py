"""Reads digits from a camera or a video file.

  python -m mnist_research.camera
  python -m mnist_research.camera --workdir=runs/cnn --source=video.mp4

The frames of the last third of a second vote; the answer changes when two thirds of them agree.
Prints a JSON object on stdout whenever the answer changes: frame, seconds, label, label_name,
probability, box (x, y, width, height in pixels of the frame), step of the network; those from
label to box are null if there is no digit. If there is a display, a window shows the frames with
the digit outlined; q or Esc closes it. Ends with the video, or with Ctrl-C.
"""

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the network and the source."""
  config_flags.define(flag_values, ["workdir", "device"])
  config_flags.define_step(flag_values)
  config_flags.define_accept_all(flag_values)
  command_line.define_path("source", "0", "number of a camera, or a video file", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Reads the digits of a camera or a video."""
  app.refuse_arguments(arguments)
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  app.require_extra("cv2", "camera")
  from mnist_research.live import video
  from mnist_research.live.voting import Vote

  source = video.open_video(flag_values.source)
  has_window = video.has_display()
  app.load_tensorflow()
  from absl import logging

  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  recognizer = load_recognizer(
    workdir, settings, flag_values.step, accept_all=flag_values.accept_all
  )
  readings.check_reads_digits(recognizer, "the camera")
  logging.info("reading digits from --source=%s; Ctrl-C stops", flag_values.source)
  told = latest = None
  vote: Vote[str | None] = Vote(None)
  for frame in video.read_frames(source):
    reading = readings.read_digit(recognizer, frame.gray)
    if reading and not reading.is_digit:
      reading = None
    label_name = vote.add(frame.seconds, recognizer.label_names[reading.label] if reading else None)
    # The part of the answer that is shown comes from the latest frame that gave it.
    if reading and recognizer.label_names[reading.label] == label_name:
      latest = reading
    reading = latest if label_name else None
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
          "step": recognizer.trained.step,
        }
      )
    if has_window:
      outline = readings.outline(reading) if reading else None
      text = f"{label_name} {reading.probability:.0%}" if reading else ""
      if not video.show(frame, outline, text, source.pause):
        return


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.OF_TRAINING)

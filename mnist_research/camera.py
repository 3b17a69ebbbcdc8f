"""Reads digits from a camera or a video file.

  python -m mnist_research.camera
  python -m mnist_research.camera --workdir=runs/cnn --source=video.mp4

The answer changes when two thirds of the frames in the last third of a second agree. Each change
prints a JSON object on stdout: frame, seconds, number (empty if there is no digit), its rows and
digits as in `predict --digits`, and the step of the model. Anything that the model rejects as a
non-digit is ignored. If there is a display, a window shows the frames with each digit outlined; q
or Esc closes it. The command ends with the video, or on Ctrl-C.
"""

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model and the source."""
  config_flags.define(flag_values, ["workdir", "device"])
  config_flags.define_step(flag_values)
  config_flags.define_accept_all(flag_values)
  command_line.define_path("source", "0", "number of a camera, or a video file", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Reads digits from a camera or a video."""
  app.refuse_arguments(arguments)
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  app.require_extra("cv2", "camera")
  from mnist_research.live import video

  source = video.open_video(flag_values.source)
  has_window = video.has_display()
  app.load_tensorflow()
  from absl import logging

  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer
  from mnist_research.live.scenes import read_scene

  recognizer = load_recognizer(
    workdir, settings, flag_values.step, accept_all=flag_values.accept_all
  )
  readings.check_reads_digits(recognizer, "the camera")
  logging.info("reading digits from --source=%s; Ctrl-C stops", flag_values.source)
  last_number = ""
  for frame, results in read_scene(recognizer, video.read_frames(source)):
    record = readings.number(results, recognizer.label_names)
    if record["number"] != last_number:
      last_number = record["number"]
      frame_fields = {"frame": frame.number, "seconds": frame.seconds}
      app.print_json({**frame_fields, **record, "step": recognizer.trained.step})
    if has_window:
      outlines = [readings.outline(reading) for reading in results]
      if not video.show(frame, outlines, " ".join(record["rows"]), source.pause):
        return


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)

"""The detector node: newest frame in, boxes in source pixels out, at the image's stamp."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from ..config import DetectorConfig
from ..detect import Detector
from ..records import Frame
from ..runtime.worker import Worker
from . import convert, topics
from .bus import Bus
from .main import run
from .node import StageNode
from .topic_source import receive_frames


class DetectorNode(StageNode):
    """An empty array means "looked, saw nothing"; after a failure nothing is published and diagnostics say why."""

    NAME, CONFIG = "detector", DetectorConfig

    def __init__(self, bus: Bus | None = None, namespace: str | None = None) -> None:
        super().__init__(bus, namespace)
        self._detector: Detector | None = None
        self._worker: Worker[Frame] = Worker("detector", self._detect, self.failed)
        self._detections = self.output(topics.DETECTIONS)
        receive_frames(self, self._worker.put)

    def load(self) -> None:
        from ..detect.detector import make_detector

        self._detector = make_detector(self.parameters.read(DetectorConfig))
        self.engine = self._detector.engine_info
        self.names.names[:] = self._detector.class_names

    def begin(self) -> None:
        self._worker.start()

    def _detect(self, frame: Frame) -> None:
        assert self._detector is not None
        start_ns = time.perf_counter_ns()
        detections = self._detector.detect(frame)
        work_ns = time.perf_counter_ns() - start_ns
        self.offer(topics.DETECTIONS, detections)
        self._detections.publish(convert.detections_message(detections, self.names))
        self.stats.result(frame.stamp_ns, self.now_ns(), work_ns, detections=len(detections))

    def end(self) -> None:
        self._worker.stop()

    def unload(self) -> None:
        self._detector = None

    def details(self) -> dict[str, Any]:
        return {"dropped": self._worker.dropped}


def main() -> NoReturn:
    """The process of this node alone."""
    run(lambda: [DetectorNode()])


if __name__ == "__main__":
    main()

"""Drawing what the stages say onto a frame: for people, on the topic, in the film and in reports."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..records import U8, DepthPoseResult, Detections, Frame, TargetStatus, Track, TrackState

Colour = tuple[int, int, int]  # BGR

DETECTION: Colour = (150, 150, 150)
STATE_COLOURS: dict[TrackState, Colour] = {
    TrackState.TENTATIVE: (200, 200, 60), TrackState.TRACKED: (80, 220, 60),
    TrackState.OCCLUDED: (0, 190, 255), TrackState.LOST: (60, 60, 230),
}
TARGET_COLOURS: dict[str, Colour] = {
    "ACQUIRING": (255, 220, 0), "LOCKED": (255, 90, 255), "OCCLUDED": (0, 190, 255), "LOST": (60, 60, 230),
    "FAILED": (0, 0, 255),
}
MOTION: Colour = (0, 0, 255)


def draw(frame: Frame, detections: Detections | None, tracks: Sequence[Track], target: TargetStatus | None,
         depth_pose: DepthPoseResult | None = None, class_names: Sequence[str] = (), width_px: int = 0) -> U8:
    """A new (H, W, 3) BGR picture; frames wider than ``width_px`` are first shrunk by 2, 3, ... to fit (0 = never).

    Detections are thin grey, tracks carry id, class and a tail of 0.5 s of their velocity, the locked target has
    corner marks, pixels of the motion mask are tinted; the line at the top says how many of what, and how old.
    """
    height, width = frame.image.shape[:2]
    shrink = -(-width // width_px) if width_px else 1  # a whole number: averaging whole pixels is 15 times faster
    scale = 1.0 / shrink
    if shrink > 1:
        size = (width // shrink, height // shrink)
        picture: U8 = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    else:
        picture = np.array(frame.image)
    pen = _Pen(picture, scale)
    if depth_pose is not None and depth_pose.motion_mask is not None:
        pen.tint(depth_pose.motion_mask, MOTION)
    if detections is not None:
        for box in detections.xyxy_px:
            pen.box(box, DETECTION, thin=True)
    for track in tracks:
        colour = STATE_COLOURS[track.state]
        pen.box(track.xyxy_px, colour)
        pen.tail(track.xyxy_px, track.velocity_px_s, colour)
        pen.label(track.xyxy_px, f"{track.id} {class_name(track.class_id, class_names)}".strip(), colour)
    if target is not None and target.track is not None and target.state in TARGET_COLOURS:
        pen.corners(target.track.xyxy_px, TARGET_COLOURS[target.state])
    pen.header(_summary(frame, detections, tracks, target, depth_pose))
    return picture


def class_name(class_id: int, names: Sequence[str]) -> str:
    """The name of a class, its number where there is no name, nothing for -1 (unknown)."""
    return names[class_id] if 0 <= class_id < len(names) else "" if class_id < 0 else str(class_id)


def _summary(frame: Frame, detections: Detections | None, tracks: Sequence[Track], target: TargetStatus | None,
             depth_pose: DepthPoseResult | None) -> str:
    words = [f"#{frame.seq}", f"{len(tracks)} tracks"]
    if detections is not None:
        late_ms = (frame.stamp_ns - detections.stamp_ns) * 1e-6
        words.append(f"{len(detections)} det" + (f" -{late_ms:.0f} ms" if late_ms >= 1 else ""))
    if target is not None and target.state != "NONE":
        words.append(f"target {target.state} {target.quality:.2f}")
    if depth_pose is not None and depth_pose.pose is not None:
        x, y, z = depth_pose.pose.position_m
        unit = "m" if depth_pose.pose.scale.value == "METRIC" else "units"
        words.append(f"pos {x:.1f} {y:.1f} {z:.1f} {unit}")
    return "  ".join(words)


class _Pen:
    """Draws source-pixel coordinates onto a scaled picture, sized to be read at 640 as at 1920 px."""

    def __init__(self, picture: U8, scale: float) -> None:
        self.picture, self.scale = picture, scale
        self.width = max(1, round(picture.shape[1] / 640))
        self.font = max(0.4, picture.shape[1] / 1600)

    def _corners(self, box: np.ndarray) -> tuple[int, int, int, int]:
        h, w = self.picture.shape[:2]
        x1, y1, x2, y2 = np.clip(np.asarray(box) * self.scale, -1, [w, h, w, h]).round().astype(int)
        return int(x1), int(y1), int(x2), int(y2)

    def box(self, box: np.ndarray, colour: Colour, thin: bool = False) -> None:
        x1, y1, x2, y2 = self._corners(box)
        cv2.rectangle(self.picture, (x1, y1), (x2, y2), colour, 1 if thin else self.width, cv2.LINE_AA)

    def corners(self, box: np.ndarray, colour: Colour) -> None:
        x1, y1, x2, y2 = self._corners(box)
        pad = 3 * self.width
        x1, y1, x2, y2 = x1 - pad, y1 - pad, x2 + pad, y2 + pad
        arm = max(6, (x2 - x1 + y2 - y1) // 8)
        for x, dx in ((x1, arm), (x2, -arm)):
            for y, dy in ((y1, arm), (y2, -arm)):
                cv2.line(self.picture, (x, y), (x + dx, y), colour, self.width + 1, cv2.LINE_AA)
                cv2.line(self.picture, (x, y), (x, y + dy), colour, self.width + 1, cv2.LINE_AA)

    def tail(self, box: np.ndarray, velocity_px_s: np.ndarray, colour: Colour) -> None:
        x1, y1, x2, y2 = self._corners(box)
        cx, cy = (x1 + x2) // 2, (y1 + y2) // 2
        dx, dy = np.clip(0.5 * self.scale * np.asarray(velocity_px_s), -1e4, 1e4)
        cv2.line(self.picture, (cx, cy), (round(cx - dx), round(cy - dy)), colour, self.width, cv2.LINE_AA)

    def label(self, box: np.ndarray, text: str, colour: Colour) -> None:
        x1, y1, _, y2 = self._corners(box)
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self.font, 1)
        x = min(max(x1, 0), max(self.picture.shape[1] - w - 4, 0))
        y = y1 - 3 if y1 - h - base - 3 > h + base else y2 + h + 4  # below the box where the header would hide it
        cv2.rectangle(self.picture, (x, y - h - 2), (x + w + 3, y + base - 1), colour, -1)
        cv2.putText(self.picture, text, (x + 2, y), cv2.FONT_HERSHEY_SIMPLEX, self.font, (0, 0, 0), 1, cv2.LINE_AA)

    def header(self, text: str) -> None:
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self.font, 1)
        strip = self.picture[: h + base + 6, : w + 12]
        strip[:] = strip // 3
        white = (255, 255, 255)
        cv2.putText(self.picture, text, (6, h + 4), cv2.FONT_HERSHEY_SIMPLEX, self.font, white, 1, cv2.LINE_AA)

    def tint(self, mask: np.ndarray, colour: Colour) -> None:
        h, w = self.picture.shape[:2]
        inside = cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
        self.picture[inside] = self.picture[inside] // 2 + np.array(colour, np.uint8) // 2

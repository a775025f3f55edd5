"""Frozen stage configurations: the only place with defaults.

Each field carries its range, unit and meaning, so that one declaration serves YAML files, ROS parameters
(descriptors with ranges) and the command line. The YAML layout is ROS 2's own parameter file: one key a node
with ``ros__parameters`` under it, read by ``ros2 launch`` and by everything else here alike.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError
from .parameters import Checked, make, param


@dataclass(frozen=True)
class CameraConfig(Checked, section="camera"):
    """Where frames come from, and how."""

    source: str = param("demo", "demo, sim:SCENE, a video, an image folder, bag:PATH, v4l2:/dev/videoN, csi:N, rtsp://...")
    calibration: str = param("", "camera_info_manager YAML; empty = the source's own intrinsics or none")
    frame_id: str = param("camera_optical", "frame of images, boxes and depth")
    image_topic: str = param("", "image topic of a bag; empty = its only camera")
    fps: float = param(30.0, "rate of sources that have no clock of their own (folders), Hz", lo=0.1, hi=1000.0)
    width_px: int = param(0, "asked of a device; 0 = its default", lo=0, hi=16384)
    height_px: int = param(0, "asked of a device; 0 = its default", lo=0, hi=16384)
    undistort: bool = param(False, "remap images to an ideal pinhole with the same K")
    realtime: bool = param(True, "pace finite sources by their stamps")
    loop: bool = param(False, "start a finite source again at its end")
    jpeg_quality: int = param(95, "of image/compressed (what recordings hold)", lo=1, hi=100)
    reconnect_max_s: float = param(5.0, "longest wait between attempts to reopen a vanished device, s", lo=0.1, hi=60.0)


@dataclass(frozen=True)
class DetectorConfig(Checked, section="detector"):
    """Which network looks, and what it reports."""

    model: str = param("", "engine, manifest folder or ONNX; empty = the package's own aerial detector")
    family: str = param("auto", "output layout of the model",
                        choices=("auto", "uavdet", "yolox", "nanodet", "yolov5", "yolov8", "ssd", "end2end"))
    classes: tuple[str, ...] = param([], "class names in the model's order; empty = from its metadata or COCO")
    keep: tuple[str, ...] = param([], "class names to report; empty = all")
    score_min: float = param(0.25, "detections below are not reported", lo=0.0, hi=1.0)
    nms_iou: float = param(0.6, "boxes of a class overlapping more are one object", lo=0.0, hi=1.0)
    max_detections: int = param(300, "at most this many a frame", lo=1, hi=10000)
    input_px: int = param(0, "input of models of free size: about its square, as the frame; 0 = the model's own", lo=0, hi=4096)
    coarse_px: int = param(480, "a second look at about this number squared, for objects too large for a first look of "
                                "more than 1.5 times that (models of free size); 0 = none", lo=0, hi=4096)
    views: int = param(1, "looks at the frame: as it is, mirrored at its diagonals, turned by half; fused", lo=1, hi=4)
    tile_px: int = param(0, "side of square tiles in source pixels for tiny objects; 0 = whole frame", lo=0, hi=8192)
    tile_overlap: float = param(0.2, "share of a tile shared with its neighbour", lo=0.0, hi=0.9)
    backend: str = param("auto", "engine to use", choices=("auto", "onnxruntime", "tensorrt"))
    threads: int = param(0, "CPU inference threads; 0 = chosen from the machine", lo=0, hi=256)


@dataclass(frozen=True)
class TrackerConfig(Checked, section="tracker"):
    """Many targets and the operator's lock. Noises are shares of a target's size sqrt(w h)."""

    high_score: float = param(0.4, "detections above start tracks", lo=0.0, hi=1.0)
    low_score: float = param(0.1, "detections above continue confirmed tracks", lo=0.0, hi=1.0)
    confirm_hits: int = param(2, "detections in a row until a track is confirmed", lo=1, hi=100)
    coast_s: float = param(2.0, "a track unseen for longer is lost, s", lo=0.0, hi=60.0)
    coast_looks: int = param(10, "... but not before so many looks in a row missed it (slow detectors)", lo=1, hi=1000)
    target_tracker: str = param("lsart", "tracker of the locked target", choices=("lsart", "kcf", "csrt", "nano"))
    auto_lock: bool = param(False, "lock the best track when nothing is locked")
    centre_noise: float = param(0.07, "spread of a detection's centre, shares of width and height", lo=1e-3, hi=1.0)
    size_noise: float = param(0.12, "spread of a detection's width and height, shares", lo=1e-3, hi=1.0)
    velocity_prior_s: float = param(1.5, "spread of a new target's velocity, sizes/s", lo=0.0, hi=100.0)
    acceleration_noise: float = param(0.3, "how fast velocity may wander, sizes/s^1.5", lo=0.0, hi=100.0)
    pixel_noise_px: float = param(0.5, "spread of a detection's edges besides, whatever its size, px", lo=0.0, hi=10.0)
    growth_noise: float = param(0.2, "how fast width and height may wander, sizes/s^0.5", lo=0.0, hi=10.0)
    blind_noise: float = param(1.0, "room for a centre when camera motion is unknown, sizes", lo=0.0, hi=100.0)
    steady: float = param(0.5, "probability that a target keeps its motion until the next look", lo=0.0, hi=1.0)
    gate: float = param(50.0, "largest squared Mahalanobis distance of a match (4 degrees of freedom)", lo=1.0, hi=1000.0)
    cost_limit: float = param(0.0, "dearer matches (negative log-likelihood + cues) are refused", lo=-100.0, hi=1000.0)
    appearance_weight: float = param(8.0, "cost of a wholly different look; 0 = no appearance cue", lo=0.0, hi=100.0)
    faint_cost: float = param(1.0, "cost of a detection below high_score", lo=0.0, hi=100.0)
    class_cost: float = param(1.0, "cost of another class", lo=0.0, hi=100.0)
    camera_motion: bool = param(True, "take camera motion out by sparse flow")
    camera_motion_width_px: int = param(400, "width of the picture camera motion is measured on", lo=64, hi=4096)
    camera_motion_corners: int = param(110, "corners followed for camera motion", lo=16, hi=2000)
    lock_iou: float = param(0.3, "a drawn box overlapping a track by more takes its identity", lo=0.0, hi=1.0)
    young_hits: int = param(6, "tracks of at most so many detections may turn out to continue a missing one", lo=0, hi=100)
    relock_after_s: float = param(0.3, "a locked target unseen for longer may be shown to its tracker anew, s",
                                  lo=0.0, hi=60.0)
    relock_looks: int = param(3, "... after so many looks in a row that found its identity", lo=1, hi=100)
    relock_strangeness: float = param(0.4, "... and only if it looks like itself: largest appearance distance", lo=0.0,
                                      hi=2.0)
    relock_max_s: float = param(5.0, "the identity of a locked target is held this long without sight of it, s", lo=0.0,
                                hi=600.0)
    history_s: float = param(1.5, "detections this much older than the frame are refused, s", lo=0.05, hi=10.0)
    backwards_s: float = param(1.0, "frames older than the newest by less are ignored; by more, time restarts, s",
                               lo=0.0, hi=60.0)
    budget_ms: float = param(0.0, "time a frame may take before work is shed (appearance first); 0 = no limit, "
                             "deterministic", lo=0.0, hi=1000.0)


@dataclass(frozen=True)
class LsartConfig(Checked, section="lsart"):
    """The CNN + KRR target tracker; every part can be switched off to measure its worth."""

    search_ratio: float = param(4.0, "side of the search window / sqrt(target area)", lo=2.0, hi=8.0)
    window_px: int = param(160, "side of the resampled search window, px", lo=96, hi=400)
    cell_px: int = param(4, "side of a feature cell in the resampled window, px", lo=2, hi=8)
    colour: bool = param(True, "basic-colour maps beside HOG")
    learn_rate: float = param(0.12, "share of the newest frame in the appearance model", lo=0.0, hi=1.0)
    learn_every: int = param(2, "learn in every n-th frame", lo=1, hi=100)
    krr_ridge: float = param(1e-3, "lambda_1 of the regression, relative to the features' energy", lo=0.0, hi=10.0)
    krr_step: float = param(0.1, "ADMM penalty, relative to the features' energy", lo=1e-4, hi=10.0)
    krr_iterations: int = param(2, "ADMM iterations each time it learns", lo=1, hi=20)
    cross_patch: bool = param(False, "learn beta of the 3x3 cross-patch kernel; off = plain ridge")
    cross_patch_every: int = param(20, "frames between two estimates of beta", lo=1, hi=1000)
    regions: bool = param(True, "masked region kernels beside the kernel regression")
    region_count: int = param(20, "number of region kernels; the first eight are bands", lo=8, hi=100)
    region_channels: int = param(8, "channels the features are compressed to for the regions", lo=1, hi=40)
    region_weight: float = param(0.45, "weight of the regions beside the kernel regression", lo=0.0, hi=5.0)
    region_below: float = param(0.7, "the regions are asked where the regression's quality is below", lo=0.0, hi=1.0)
    region_every: int = param(12, "learn the regions in every n-th frame", lo=1, hi=100)
    distance_transform: bool = param(True, "distance-transform pooling of the regions' maps")
    quality_fusion: bool = param(True, "weigh the two regressions by the sharpness of their peaks; off = fixed weight")
    scale: bool = param(True, "estimate scale")
    aspect: bool = param(True, "estimate aspect")
    figure: bool = param(True, "refine the box by figure and ground colours")
    figure_contrast: float = param(0.3, "figure/ground contrast from which the refinement acts", lo=0.0, hi=1.0)
    figure_step: float = param(0.7, "share of the refinement's shift and stretch taken in one frame", lo=0.0, hi=1.0)
    figure_rigidity: float = param(0.48, "scale filter response above which it does not", lo=0.0, hi=1.0)
    refine: bool = param(True, "refine the box by the learnt network")
    refine_model: str = param("", "its engine or ONNX; empty = the package's own")
    refine_present: float = param(0.5, "probability of the target's presence below which it is not asked", lo=0.0, hi=1.0)
    refine_regain: float = param(0.9, "... from which the target is plainly there; an unseen one is not taken for found below", lo=0.0, hi=1.0)
    refine_doubt: float = param(0.07, "how far off the box's own edges are held to be, box sides", lo=0.0, hi=1.0)
    camera_motion: bool = param(True, "move the box of an unseen target with the background")
    gate: bool = param(True, "no learning from doubtful frames, and occlusion; off = always learn")
    contrast_min: float = param(1.0, "standard deviation of pixel values of a blank picture", lo=0.0, hi=255.0)
    quality_min: float = param(0.25, "peak quality below which a frame is no evidence", lo=0.0, hi=1.0)
    quality_regain: float = param(0.4, "peak quality at which an unseen target counts as found", lo=0.0, hi=1.0)
    occluded_frames: int = param(4, "doubtful frames in a row until the target is OCCLUDED", lo=1, hi=100)
    regain_frames: int = param(2, "good frames in a row until it is TRACKED again", lo=1, hi=100)
    lost_s: float = param(3.0, "an unseen target is LOST after this, s", lo=0.1, hi=600.0)
    nano_models: str = param("", "folder of NanoTrack's ONNX files (tracker nano)")
    nano_version: str = param("nanotrackv3", "which of them", choices=("nanotrackv2", "nanotrackv3"))


@dataclass(frozen=True)
class DepthPoseConfig(Checked, section="depth_pose"):
    """Ego-motion, depth, and where metres come from."""

    depth_model: str = param("", "depth engine or ONNX; empty = the package's own, none = geometry alone")
    pose_model: str = param("", "pose engine or ONNX; empty = the package's own, none = geometry alone")
    mask_model: str = param("", "engine or ONNX that outlines what moves; empty = the package's own, none = a threshold")
    camera_pitch_deg: float = param(0.0, "camera below the body's forward axis, degrees (90 = straight down)", lo=-90.0, hi=90.0)
    expect_level: bool = param(True, "the vehicle flies about level, so the mounting tells where down is")
    camera_position_m: tuple[float, ...] = param([0.0, 0.0, 0.0], "camera in base_link (forward, left, up), m")
    features: int = param(400, "corners followed", lo=50, hi=5000)
    window: int = param(6, "keyframes adjusted together with the newest frame", lo=2, hi=20)
    keyframe_px: float = param(12.0, "parallax to the last keyframe at which the next is taken, px", lo=1.0, hi=200.0)
    blank_std: float = param(3.0, "an image with less spread is blank, grey levels", lo=0.0, hi=100.0)
    gap_max_s: float = param(1.0, "after a longer gap between usable frames the run starts anew, s", lo=0.01, hi=600.0)
    product_width_px: int = param(416, "depth, flow and cloud are at most this wide, px", lo=32, hi=8192)
    mask_width_px: int = param(640, "pictures are at most this wide from which a network draws the mask, px", lo=32, hi=8192)
    fuse_reach: float = param(0.015, "radius in which a measured point bends the network's depth, share of the width",
                              lo=0.005, hi=0.5)
    parallax: bool = param(True, "set dense depth right by an earlier picture")
    scale_hold_s: float = param(2.0, "metres are withdrawn this long after the last height or position, s", lo=0.1, hi=60.0)
    nav_motion_min_m: float = param(1.0, "navigation displacement below this says nothing about scale, m", lo=0.05, hi=100.0)
    ground_tilt_max_deg: float = param(25.0, "ground may be tilted against the camera mounting by this, degrees", lo=1, hi=80)
    obstacle_min_m: float = param(0.3, "nearer depth is no obstacle (propellers, noise), m", lo=0.0, hi=10.0)
    obstacle_max_m: float = param(30.0, "farther depth is free space, m", lo=1.0, hi=650.0)
    obstacle_half_height_m: float = param(1.0, "obstacles count this much above and below the vehicle, m", lo=0.1,
                                          hi=50.0)
    motion_mask: bool = param(True, "compute the mask of what moves by itself")
    motion_contrast: float = param(10.0, "difference to the scene as seen before that counts as moving, grey levels",
                                   lo=1.0, hi=255.0)
    flow: bool = param(True, "compute the rigid flow")
    threads: int = param(0, "CPU inference threads; 0 = chosen from the machine", lo=0, hi=256)
    tf: str = param("always", "when odom -> base_link goes to /tf; a transform cannot say that its scale is unknown: "
                    "metric = only with a metric scale", choices=("always", "metric", "never"))


@dataclass(frozen=True)
class FlightLinkConfig(Checked, section="flight_link"):
    """What reaches the autopilot, and how fresh it must be."""

    url: str = param("", "autopilot: udpout:host:port, udpin:host:port, serial device[:baud]; empty = no link")
    system_id: int = param(1, "MAVLink system id (the vehicle's)", lo=1, hi=255)
    component_id: int = param(191, "MAVLink component id (191 = onboard computer)", lo=1, hi=255)
    camera_component_id: int = param(100, "component id we are a MAVLink camera as, for operator tracking; 0 = none",
                                     lo=0, hi=255)
    max_age_ms: float = param(200.0, "nothing older leaves for the autopilot, ms", lo=1.0, hi=5000.0)
    max_ahead_ms: float = param(20.0, "stamps further in the future are refused (clock granularity), ms", lo=0.0,
                                hi=1000.0)
    critical_s: float = param(0.5, "silence of the stages until the heartbeat says CRITICAL, s", lo=0.05, hi=60.0)
    emergency_s: float = param(15.0, "silence of the stages until the heartbeat says EMERGENCY, s", lo=0.1, hi=600.0)
    baud: int = param(115200, "serial speed when the url names none", lo=1200, hi=4000000)
    obstacles: bool = param(False, "send OBSTACLE_DISTANCE: depth between measured points is a network's estimate, and "
                                   "autopilots brake for it")


@dataclass(frozen=True)
class OverlayConfig(Checked, section="overlay"):
    """What a person looks at: drawn frames as a topic (on demand) and as a film."""

    video: str = param("", "MP4 file to write; empty = none")
    fps: float = param(15.0, "drawn frames a second at most, Hz", lo=0.1, hi=120.0)
    width_px: int = param(960, "wider frames are shrunk by a whole factor to at most this for drawing", lo=160, hi=7680)
    jpeg_quality: int = param(80, "of overlay/compressed", lo=1, hi=100)


@dataclass(frozen=True)
class RecorderConfig(Checked, section="recorder"):
    """Which bag holds the flight."""

    bag: str = param("", "rosbag2 folder (MCAP) to write; empty = no recording")
    images: str = param("jpeg", "how camera frames are recorded", choices=("jpeg", "raw", "none"))
    dense: bool = param(False, "record depth, points, motion_mask and flow too (makes the stages publish them)")
    queue: int = param(200, "messages kept while the disk stalls", lo=1, hi=100000)


@dataclass(frozen=True)
class NodeConfig(Checked, section="node"):
    """Of every node: key ``/**`` in the parameter file, or beside the node's own values."""

    autostart: bool = param(True, "configure and activate at start; false = a lifecycle manager does it")
    diagnostics_hz: float = param(2.0, "rate of /diagnostics, Hz", lo=0.1, hi=50.0)
    deadline_ms: float = param(200.0, "results older than this when published are deadline misses, ms", lo=1.0, hi=1e5)


@dataclass(frozen=True)
class EvaluateConfig(Checked):
    """Offline evaluation (``uav-perception evaluate``); no part of the parameter file of the nodes."""

    score_floor: float = param(0.01, "detections above are scored (COCO has no threshold); the tracker still gets only "
                               "those above detector.score_min", lo=0.0, hi=1.0)
    visibility_min: float = param(0.25, "truth less visible is not required", lo=0.0, hi=1.0)
    depth_min_m: float = param(1e-3, "nearest depth that is scored, m", lo=0.0, hi=1000.0)
    depth_max_m: float = param(200.0, "farthest depth that is scored, m", lo=1.0, hi=100000.0)
    truth_tolerance_ms: float = param(1.0, "truth and frame belong together when stamps differ by less, ms",
                                      lo=0.0, hi=1000.0)
    pose_gap_ms: float = param(250.0, "true poses are interpolated over gaps up to this, ms", lo=0.0, hi=10000.0)
    prefetch_frames: int = param(3, "frames decoded and detected ahead of the tracker", lo=1, hi=64)
    worst_frames: int = param(6, "worst frames shown a bag and score", lo=0, hi=100)
    picture_px: int = param(960, "width of pictures in the report", lo=160, hi=3840)
    pictures_max: int = param(200, "pictures in one report", lo=0, hi=10000)
    tolerance: float = param(0.01, "a score worse than the baseline's by more is a regression (share of the baseline's "
                             "value, at least this in absolute terms for scores of 0..1)", lo=0.0, hi=1.0)


@dataclass(frozen=True)
class BuilderConfig(Checked):
    """How engines are calibrated and judged (offline; no node of the graph)."""

    pictures: int = param(48, "calibration pictures drawn", lo=1, hi=100000)
    seed: int = param(0, "seed of the draw", lo=0, hi=2**31 - 1)
    method: str = param("auto", "range method; auto = the one with the least output error",
                        choices=("auto", "mse", "percentile", "minmax", "entropy"))
    equalise: str = param("auto", "cross-layer equalisation of channel ranges; auto = where it lowers the output error",
                          choices=("auto", "on", "off"))
    judge_pictures: int = param(4, "drawn pictures on which candidates are compared", lo=1, hi=1000)
    goal_percent: float = param(15.0, "output error (RMS, percent) sought when no gate is given", lo=0.0, hi=1000.0)
    max_float_share: float = param(0.3, "at most this share of the layers is left in float", lo=0.0, hi=1.0)
    suspects: int = param(16, "layers whose sensitivity is measured one by one; the rest is ranked by estimate",
                          lo=1, hi=100000)
    eval_pictures: int = param(150, "pictures of each labelled set that are scored", lo=1, hi=1000000)
    plan: str = param("fastest", "fastest = first layers and large maps stay in float where that is faster here; "
                      "fixed = without a clock, the same file on every machine", choices=("fastest", "fixed"))
    latency_rounds: int = param(30, "inferences a latency figure is made of", lo=3, hi=10000)


SECTIONS: dict[str, type[Checked]] = {
    "camera": CameraConfig,
    "detector": DetectorConfig,
    "tracker": TrackerConfig,
    "lsart": LsartConfig,
    "depth_pose": DepthPoseConfig,
    "flight_link": FlightLinkConfig,
    "overlay": OverlayConfig,
    "recorder": RecorderConfig,
    "node": NodeConfig,
}


@dataclass(frozen=True)
class FlightConfig:
    """All stages of one flight."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    lsart: LsartConfig = field(default_factory=LsartConfig)
    depth_pose: DepthPoseConfig = field(default_factory=DepthPoseConfig)
    flight_link: FlightLinkConfig = field(default_factory=FlightLinkConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    recorder: RecorderConfig = field(default_factory=RecorderConfig)
    node: NodeConfig = field(default_factory=NodeConfig)

    def with_values(self, section: str, **values: Any) -> FlightConfig:
        """A copy with some values of one section changed (None = leave as it is)."""
        given = {k: v for k, v in values.items() if v is not None}
        current = dataclasses.asdict(getattr(self, section))
        changed: dict[str, Any] = {section: make(SECTIONS[section], {**current, **given})}
        return dataclasses.replace(self, **changed)


NODE_PARAMETERS = {f.name for f in fields(NodeConfig)}  # a node may have its own value of these
ROS_PARAMETERS = ("use_sim_time", "qos_overrides", "start_type_description_service")  # of every ROS 2 node


def load_flight_config(path: str | Path) -> FlightConfig:
    """Read a ROS 2 parameter file. Keys of nodes this package does not know are refused.

    Raises:
        ConfigError: file missing, not YAML, unknown node or parameter, value out of range.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ConfigError(f"parameter file {path}: {str(e).splitlines()[0]}", "a readable YAML file",
                          "see launch/params/flight.yaml") from e
    if not isinstance(tree, dict):
        raise ConfigError(f"parameter file {path} holding a {type(tree).__name__}", "a mapping of node names",
                          "see launch/params/flight.yaml")
    sections: dict[str, Any] = {}
    for node, body in tree.items():
        name = str(node).rsplit("/", 1)[-1]
        nodes = ("**", *(n for n in SECTIONS if n not in ("node", "lsart")))
        if name not in nodes:
            raise ConfigError(f"node {node!r} in {path}", f"one of {', '.join(nodes)}", "correct the node name")
        values = {k: v for k, v in ((body or {}).get("ros__parameters") or {}).items() if k not in ROS_PARAMETERS}
        common = make(NodeConfig, {k: values.pop(k) for k in NODE_PARAMETERS & values.keys()})
        if name == "**":
            sections["node"] = common
            make(NodeConfig, values)  # anything left is unknown
        else:
            if name == "tracker":  # its parameters `lsart.*`
                sections["lsart"] = make(LsartConfig, values.pop("lsart", None) or {})
            sections[name] = make(SECTIONS[name], values)
    return FlightConfig(**sections)

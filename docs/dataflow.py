"""Draws docs/dataflow.svg: `python docs/dataflow.py`. The figure of ARCHITECTURE.md."""

from pathlib import Path

BOXES = {  # name: (x, y, title, second line, colour)
    "camera": (20, 70, "camera", "capture stamp", "#dbeafe"),
    "detector": (200, 70, "detector", "INT8 engine", "#dcfce7"),
    "tracker": (380, 70, "tracker", "identities + lock", "#dcfce7"),
    "depth": (380, 190, "depth_pose", "depth, ego-motion", "#dcfce7"),
    "link": (640, 130, "flight_link", "fresh or silent", "#fee2e2"),
    "fc": (820, 130, "autopilot", "PX4, ArduPilot", "#f3f4f6"),
}
ARROWS = [  # from, to, label, (dx, dy) of the label
    ("camera", "detector", "Frame", (0, -8)), ("detector", "tracker", "Detections", (0, -8)),
    ("camera", "depth", "Frame", (-30, 18)), ("tracker", "link", "target", (6, -12)), ("depth", "link", "odometry", (6, 20)),
    ("link", "fc", "MAVLink", (0, -8)),
]
W, H = 130, 56


def svg() -> str:
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 970 330" font-family="sans-serif" font-size="13">',
             '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
             '<path d="M0 0L8 4L0 8z"/></marker></defs><rect width="970" height="330" fill="white"/>',
             '<rect x="8" y="36" width="520" height="230" rx="8" fill="none" stroke="#94a3b8" stroke-dasharray="6 4"/>'
             '<text x="16" y="28" fill="#475569">process perception: frames by reference, newest wins, a thread a stage</text>',
             '<rect x="622" y="96" width="166" height="108" rx="8" fill="none" stroke="#94a3b8" stroke-dasharray="6 4"/>'
             '<text x="622" y="88" fill="#475569">process of its own</text>']
    for x, y, title, second, colour in BOXES.values():
        parts.append(f'<rect x="{x}" y="{y}" width="{W}" height="{H}" rx="6" fill="{colour}" stroke="#334155"/>'
                     f'<text x="{x + W / 2}" y="{y + 24}" text-anchor="middle" font-weight="bold">{title}</text>'
                     f'<text x="{x + W / 2}" y="{y + 42}" text-anchor="middle" fill="#475569">{second}</text>')
    for start, end, label, (dx, dy) in ARROWS:
        x1, y1 = BOXES[start][0] + W, BOXES[start][1] + H / 2
        x2, y2 = BOXES[end][0], BOXES[end][1] + H / 2
        parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="black" marker-end="url(#a)"/>'
                     f'<text x="{(x1 + x2) / 2 + dx}" y="{(y1 + y2) / 2 + dy}" text-anchor="middle" font-size="11">{label}</text>')
    parts.append('<text x="20" y="292" fill="#475569">The same stage objects, called in lock-step by pipeline.py: bag → evaluate → scores '
                 '(no ROS, no DDS, the same numbers every time).</text>'
                 '<text x="20" y="314" fill="#475569">Companion builder: ONNX + own pictures → calibrate → Q/DQ → accuracy gate → engine + manifest.</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(svg())

"""Rendered flights with exact truth (extra ``sim``); ray casting by Embree through ``embreex``.

    scene (ground, buildings, trees, traffic) -> trajectory -> rays -> shading -> optics and sensor -> frame + truth

``flight.Flight`` iterates over the frames of a named scene, ``views.random_view`` draws one randomised still,
``source.SimSource`` is a camera, ``record.render_bag`` writes a bag. World frame: ENU metres, ground near z = 0.
"""

"""Engine JSON <-> protobuf, by reflection. Pure.

Imported by gateway and controlapi; imports api only.
"""

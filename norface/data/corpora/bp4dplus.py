"""BP4D+: 140 persons in 10 tasks, of which T1, T6, T7 and T8 have action units.

Zhang et al., Multimodal Spontaneous Emotion Corpus, CVPR 2016. Tables as in BP4D's later hand-out,
except that the occurrence table has no column for some units, so that column 3 is AU4
(ubicomplab/rPPG-Toolbox dataset/data_loader/BP4DPlusBigSmallLoader.py; forever208/FMAE-IAT
AU/BP4D_plus_preprocess.py). Photographs are read from 2D+3D/F001.zip, or from the
folder that was unpacked from it.

F001 here is another person than F001 of BP4D; bp4d.py says how the two are told apart.
"""

from __future__ import annotations

from norface.data.corpora.bp4d import BP4D_PEOPLE, BP4D_PLUS_PEOPLE, Bp4dReader


class Bp4dPlusReader(Bp4dReader):
    """The coded frames of BP4D+, by person, task and frame."""

    name = "bp4dplus"
    title = "BP4D+: 140 persons, action units in four of 10 tasks, and five intensities"
    tree = """\
ROOT/
  AUCoding/AU_OCC/F001_T1.csv
  AUCoding/AU_INT/AU06/F001_T1_AU06.csv   may be missing
  2D+3D/F001.zip with F001/T1/2440.jpg    or unpacked, F001/T1/2440.jpg; or videos, F001_T1.mp4;
                                          or anywhere: pictures=FOLDER"""
    published = {"samples": 197_756, "subjects": 140}

    people = BP4D_PLUS_PEOPLE
    other = BP4D_PEOPLE
    # Session numbers are known of BP4D alone.
    sessions = {}

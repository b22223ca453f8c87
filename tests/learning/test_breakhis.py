"""BreakHis, with a small folder of the official layout."""

import pytest
from PIL import Image

from inference.learning.breakhis import TreeError, parse_name, published_table, read_fold, read_tree, split

NAMES = {
    "benign/SOB/adenosis/SOB_B_A_14-22549AB": ["SOB_B_A-14-22549AB-40-001.png", "SOB_B_A-14-22549AB-100-001.png"],
    "benign/SOB/fibroadenoma/SOB_B_F_14-9133": ["SOB_B_F-14-9133-40-002.png"],
    "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-13412": ["SOB_M_DC-14-13412-40-001.png"],
    "malignant/SOB/lobular_carcinoma/SOB_M_LC_14-13412": ["SOB_M_LC-14-13412-40-001.png"],
    "malignant/SOB/papillary_carcinoma/SOB_M_PC_15-190EF": ["SOB_M_PC-15-190EF-400-003.png"],
    "benign/SOB/phyllodes_tumor/SOB_B_PT_14-29315EF": ["SOB_B_PT-14-29315EF-200-001.png"],
}


@pytest.fixture
def tree(tmp_path):
    for folder, names in NAMES.items():
        place = tmp_path / "BreaKHis_v1/histology_slides/breast" / folder / names[0].split("-")[3].lower()
        place.mkdir(parents=True)
        for name in names:
            Image.new("RGB", (70, 46), "pink").save(place / name)
    return tmp_path


def test_names():
    assert parse_name("SOB_B_TA-14-4659-40-001.png") == (0, "TA", "4659", "40X")
    assert parse_name("SOB_M_DC-14-2523-400-011.png") == (1, "DC", "2523", "400X")
    assert parse_name("SOB_B_A-14-22549AB-100-020.png")[2] == "22549"
    for bad in ("SOB_X_TA-14-4659-40-001.png", "SOB_B_TA-14-4659-50-001.png", "cat.png"):
        with pytest.raises(TreeError):
            parse_name(bad)


def test_the_demonstration_patient_is_excluded(tree):
    samples = read_tree(tree)
    assert len(samples) == 6
    assert {s.group for s in samples} == {"22549", "9133", "13412", "190"}
    assert {s.label for s in samples if s.group == "13412"} == {1}
    assert len(read_tree(tree, keep_demo=True)) == 7


def test_tree_errors(tmp_path, tree):
    with pytest.raises(TreeError):
        read_tree(tmp_path / "nothing")
    misplaced = tmp_path / "other/malignant/SOB_B_A-14-22549AB-40-001.png"
    misplaced.parent.mkdir(parents=True)
    misplaced.touch()
    with pytest.raises(TreeError, match="benign"):
        read_tree(tmp_path / "other")


def test_fold_drops_training_images_of_a_test_patient(tree, tmp_path):
    fold = tmp_path / "dsfold1.txt"
    fold.write_text(
        "SOB_B_A-14-22549AB-40-001.png|40|1|train\nSOB_B_F-14-9133-40-002.png|40|1|test\n"
        "SOB_M_DC-14-13412-40-001.png|40|1|train\nSOB_M_LC-14-13412-40-001.png|40|1|test\n"
        "SOB_M_PC-15-190EF-400-003.png|400|1|train\nSOB_B_A-14-22549AB-200-009.png|200|1|train\n\n"
    )
    samples, said = read_tree(tree), []
    training, test = split(samples, read_fold(fold), said.append)
    assert {samples[i].name for i in training} == {"SOB_B_A-14-22549AB-40-001.png", "SOB_M_PC-15-190EF-400-003.png"}
    assert {samples[i].group for i in test} == {"9133", "13412"}
    assert any("dropped 1 training images of group 13412" in line for line in said)
    assert any("1 of 6 images" in line for line in said)


@pytest.mark.parametrize("line", ["a|b", "SOB_B_A-14-22549AB-40-001.png|40|1|maybe", "cat.png|40|1|train", ""])
def test_fold_errors(tmp_path, line):
    fold = tmp_path / "dsfold1.txt"
    fold.write_text(line)
    with pytest.raises(TreeError):
        read_fold(fold)


def test_published_table_matches_a_hand_calculation(tree):
    samples = [s for s in read_tree(tree) if s.magnification == "40X"]
    p = [0.9 if s.subtype == "LC" else 0.2 for s in samples]
    row = published_table([s.label for s in samples], p, samples)[0]
    # images: A, F and LC correct, DC wrong; patients: 1, 1 and 0.5
    assert (row["images"], row["patients"]) == (4, 3)
    assert row["image_rate"] == pytest.approx(3 / 4)
    assert row["patient_rate"] == pytest.approx((1 + 1 + 0.5) / 3)

import math

import pytest

from keras_attention.functional import receptive_field, tc_dilations


def test_the_dilations_of_the_paper_for_twenty_steps():
    assert tc_dilations(20) == [2, 4, 8, 16, 32]


def test_one_stack_of_wavenet_sees_1024_steps():
    assert receptive_field(2**i for i in range(10)) == 1024
    assert receptive_field([1, 2], kernel_size=3) == 7


@pytest.mark.parametrize("length", [2, 3, 4, 5, 1023, 1024, 1025])
def test_there_are_as_many_dilations_as_doublings_and_from_zero_they_just_suffice(length):
    assert len(tc_dilations(length)) == math.ceil(math.log2(length))
    dilations = tc_dilations(length, first_exponent=0)
    assert receptive_field(dilations) >= length > receptive_field(dilations[:-1])


@pytest.mark.parametrize("settings", [(1,), (0,), (5, -1)])
def test_no_steps_need_no_dilation(settings):
    with pytest.raises(ValueError, match="length T must be at least 2"):
        tc_dilations(*settings)

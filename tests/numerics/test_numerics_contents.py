"""Every hazard of the numerics, and the tests that are named after it.

Many live beside the code that they test; what a hazard claims is checked by
all tests listed under it. A test that is renamed or removed is missed here.
"""

import ast
import pathlib

import pytest

TESTS = pathlib.Path(__file__).parents[1]

HAZARDS = {
  "fp16 overflows: it is refused unless asked for by name": [
    "networks/test_network_configs.py"
    "::test_fp16_is_refused_with_the_reason_unless_asked_for",
  ],
  "bf16 activations keep fp32 parameters, optimizer, logits, softmax, loss": [
    "numerics/test_numerics_precision.py"
    "::test_exponentials_logarithms_and_roots_of_a_bf16_step_are_fp32",
    "numerics/test_numerics_precision.py"
    "::test_logits_of_a_bf16_step_are_fp32_products",
    "numerics/test_numerics_precision.py"
    "::test_master_parameters_and_optimizer_state_stay_fp32_under_bf16",
    "networks/test_encoder_decoder.py"
    "::test_bf16_activations_keep_fp32_parameters_and_logits",
    "layers/test_attention.py::test_softmax_is_fp32_under_bf16_activations",
    "layers/test_layers.py::test_norm_divides_by_the_root_mean_square_in_fp32",
    "test_losses.py::test_gradient_dtypes_are_those_of_the_arguments",
  ],
  "bf16 trains like fp32": [
    "numerics/test_numerics_bf16_loss.py"
    "::test_losses_under_bf16_stay_close_to_those_under_fp32",
  ],
  "relative position buckets are never bf16": [
    "numerics/test_numerics_precision.py"
    "::test_buckets_are_right_at_the_distances_where_bf16_errs",
    "layers/test_relative_position.py::test_buckets_equal_integer_arithmetic",
    "layers/test_relative_position.py"
    "::test_bias_stays_fp32_with_bf16_parameters",
  ],
  "cross-attention has no position bias": [
    "numerics/test_numerics_independence.py"
    "::test_cross_attention_has_no_position_bias",
  ],
  "attention is not divided by the root of the head dimension": [
    "layers/test_attention.py::test_attention_equals_numpy_head_by_head",
    "layers/test_attention.py"
    "::test_query_kernels_start_smaller_by_the_root_of_the_head_dim",
  ],
  "tied logits are scaled, and tied in T5 1.0 only": [
    "networks/test_encoder_decoder.py"
    "::test_tied_logits_are_scaled_by_the_root_of_the_width",
    "numerics/test_numerics_precision.py::test_only_t5_1_0_ties_its_readout",
  ],
  "the loss is divided by the global number of real target tokens": [
    "models/test_models_loss.py"
    "::test_each_normalizing_factor_means_what_t5x_means",
    "models/test_models_loss.py"
    "::test_packed_examples_give_the_loss_of_the_unpacked",
    "numerics/test_numerics_one_batch.py"
    "::test_the_factor_of_t5s_checkpoints_divides_the_summed_loss_by_233472",
  ],
  "one batch is n microbatches is k devices, with unequal lengths": [
    "numerics/test_numerics_one_batch.py"
    "::test_one_batch_is_two_microbatches_on_each_of_four_devices",
    "models/test_models_loss.py"
    "::test_microbatches_of_unequal_length_give_the_whole_gradient",
    "trainer/test_trainer_step.py"
    "::test_microbatches_of_unequal_lengths_equal_one_batch",
    "trainer/test_trainer_step.py"
    "::test_every_preset_gives_the_unsharded_loss_curve",
  ],
  "z-loss and smoothing have autodiff's gradient, padded rows no mass": [
    "test_losses.py"
    "::test_value_and_gradients_equal_autodiff_of_the_textbook_formula",
    "test_losses.py::test_a_perfect_smoothed_model_has_zero_loss",
    "numerics/test_numerics_losses.py"
    "::test_smoothing_mass_never_goes_to_padded_vocabulary_rows",
  ],
  "the unsmoothed NLL is always reported": [
    "test_losses.py::test_nll_is_reported_unsmoothed_and_without_z_loss",
    "models/test_models_loss.py"
    "::test_the_reported_nll_is_never_smoothed_and_accuracy_counts_hits",
  ],
  "packing: changing example A never moves the logits of example B": [
    "numerics/test_numerics_independence.py"
    "::test_changing_example_a_never_moves_the_logits_of_example_b",
    "numerics/test_numerics_independence.py"
    "::test_changing_example_a_never_moves_example_b_of_a_language_model",
    "networks/test_encoder_decoder.py"
    "::test_packed_examples_give_the_logits_of_separate_rows",
  ],
  "decoding does not change with padding": [
    "numerics/test_numerics_independence.py"
    "::test_padding_of_inputs_moves_no_logits",
    "decoding/test_decoding_models.py"
    "::test_greedy_does_not_change_with_padding_or_the_rest_of_the_batch",
    "decoding/test_decoding_beam_search.py"
    "::test_an_input_decodes_alone_as_it_does_in_a_batch",
  ],
  "Adafactor is the paper's; scanned layers are updated as unrolled ones": [
    "optim/test_optim_adafactor.py::test_five_updates_equal_the_paper",
    "optim/test_optim_adafactor.py"
    "::test_scanned_layers_are_updated_as_unrolled_ones",
    "numerics/test_numerics_one_batch.py"
    "::test_three_adafactor_steps_of_scanned_layers_are_those_of_unrolled_ones",
  ],
  "state dtypes never change across a step": [
    "trainer/test_trainer_step.py"
    "::test_shapes_dtypes_and_shardings_never_change_across_a_step",
    "optim/test_optim_adafactor.py"
    "::test_bfloat16_parameters_and_momentum_keep_their_dtypes",
  ],
  "a restore says if it takes the optimizer; fine-tuning starts at step 0": [
    "numerics/test_numerics_runs.py::"
    "test_a_restore_says_if_it_takes_the_optimizer_and_where_its_schedule_begins",
    "test_train.py::test_fine_tuning_starts_from_the_parameters_at_step_zero",
  ],
  "parameters, data and dropout have separate seeds": [
    "numerics/test_numerics_runs.py"
    "::test_dropout_has_a_seed_of_its_own_beside_those_of_parameters_and_data",
    "state/test_state_init.py::test_parameters_depend_on_the_seed",
    "data/test_data_feed.py::test_epochs_differ_in_order_and_seeds_differ",
  ],
  "the key of a step is a function of seed and step": [
    "trainer/test_trainer_step.py::test_dropout_depends_on_seed_and_step_only",
    "test_train.py"
    "::test_a_stopped_and_resumed_run_is_bit_identical_to_an_uninterrupted_one",
  ],
  "random bits do not depend on the sharding": [
    "state/test_state_init.py::test_random_numbers_do_not_depend_on_the_mesh",
    "trainer/test_trainer_step.py::test_dropout_masks_do_not_depend_on_the_mesh",
  ],
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_every_hazard_has_its_tests(hazard):
  for test in HAZARDS[hazard]:
    path, name = test.split("::")
    tree = ast.parse((TESTS / path).read_text())
    assert name in {getattr(node, "name", None) for node in tree.body}, test

"""Lists the operators that a `torch.export` program may have: those of inference, deterministic.

An operator that is not listed is refused, so that what future versions of PyTorch add is looked at
first. Left out on purpose is what draws random numbers, what trains (`*_backward`), what changes
the memory behind a tensor (`set_`, `resize_`), what reads files, and what trusts indices or sizes
without a check. Operators whose checks are incomplete are listed as guarded: a program that has
them runs with the checks of `own/exported_guards.py` around them.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_OF_ELEMENTS = """
__and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__ __xor__
_conj _conj_copy _conj_physical _neg_view _neg_view_copy abs absolute acos acosh add addcdiv
addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh
bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu
clamp clamp_max clamp_min clip complex conj conj_physical copysign cos cosh deg2rad digamma elu eq
erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide fmax fmin fmod frac frexp gcd ge
gelu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot i0 igamma
igammac imag isclose isfinite isinf isnan isneginf isposinf isreal lcm ldexp le leaky_relu lerp
less less_equal lgamma log log10 log1p log2 log_sigmoid log_sigmoid_forward logaddexp logaddexp2
logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul
multiply mvlgamma nan_to_num ne neg negative nextafter not_equal polar polygamma positive pow prelu
_prelu_kernel rad2deg real reciprocal relu relu6 remainder resolve_conj resolve_neg round rsqrt
rsub selu sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink sqrt square sub subtract
tan tanh threshold true_divide trunc where xlogy special_airy_ai special_bessel_j0
special_bessel_j1 special_bessel_y0 special_bessel_y1 special_chebyshev_polynomial_t
special_chebyshev_polynomial_u special_chebyshev_polynomial_v special_chebyshev_polynomial_w
special_digamma special_entr special_erf special_erfc special_erfcx special_erfinv special_exp2
special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
special_hermite_polynomial_h special_hermite_polynomial_he special_i0 special_i0e special_i1
special_i1e special_laguerre_polynomial_l special_legendre_polynomial_p special_log1p
special_log_ndtr special_log_softmax special_logit special_logsumexp special_modified_bessel_i0
special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1
special_multigammaln special_ndtr special_ndtri special_polygamma special_psi special_round
special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u
special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w special_sinc
special_softmax special_spherical_bessel_j0 special_xlog1py special_xlogy special_zeta
fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask
"""

_OF_LAYERS = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _batch_norm_impl_index _convolution _convolution_mode
_log_softmax _safe_softmax _softmax adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator avg_pool1d
batch_norm bilinear channel_shuffle conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution embedding embedding_bag _embedding_bag _embedding_bag_forward_only
embedding_renorm glu grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru_cell instance_norm
layer_norm linear log_softmax lstm_cell max_pool1d max_pool1d_with_indices max_pool2d
max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d
native_channel_shuffle native_group_norm native_layer_norm one_hot pixel_shuffle pixel_unshuffle
rms_norm _fused_rms_norm rnn_relu_cell rnn_tanh_cell softmax binary_cross_entropy
binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss hinge_embedding_loss
huber_loss kl_div l1_loss margin_ranking_loss mse_loss nll_loss nll_loss2d nll_loss2d_forward
nll_loss_forward nll_loss_nd poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
"""

_OF_AXES = """
_aminmax _is_all_true _is_any_true _logcumsumexp all amax amin aminmax any argmax argmin argsort
bincount bucketize corrcoef count_nonzero cov cross cummax cummin cumprod cumsum
cumulative_trapezoid diff dist equal allclose gradient histc histogram isin kthvalue logcumsumexp
logsumexp max mean median min mode msort nanmean nanmedian nanquantile nansum norm norm_except_dim
nuclear_norm frobenius_norm prod quantile renorm searchsorted sort std std_mean sum sum_to_size
topk trace trapezoid trapz unique_consecutive unique_dim unique_dim_consecutive _unique _unique2
var var_mean
"""

_OF_MATRICES = """
_addmm_activation _cdist_forward _int_mm _weight_int8pack_mm _compute_linear_combination
_euclidean_dist _linalg_det _linalg_eigh _linalg_slogdet _linalg_solve_ex _linalg_svd
_pdist_forward _trilinear addbmm addmm addmv addr baddbmm bmm cdist chain_matmul cholesky_inverse
cholesky_solve cosine_similarity det dot einsum ger inner inverse kron linalg__powsum
linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cross linalg_det linalg_diagonal
linalg_householder_product linalg_inv linalg_inv_ex linalg_lstsq linalg_lu linalg_lu_factor
linalg_lu_factor_ex linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power
linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_slogdet linalg_solve
linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_tensorinv
linalg_tensorsolve linalg_vander linalg_vecdot linalg_vector_norm logdet lu_unpack matmul
matrix_exp matrix_power mm mv orgqr outer pairwise_distance pdist pinverse slogdet svd tensordot
triangular_solve vander vdot _fft_c2c _fft_r2c fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift
fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2
fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn istft stft
"""

_OF_INDICES = """
_unsafe_index _unsafe_index_put _unsafe_masked_index argwhere diagonal_scatter gather index
index_add index_copy index_fill index_put index_reduce index_select masked_scatter masked_select
nonzero nonzero_numpy nonzero_static put repeat_interleave scatter scatter_add scatter_reduce
select_scatter slice_scatter take take_along_dim
"""

_OF_SHAPE = """
_reshape_copy _shape_as_tensor _stack _unsafe_view _pad_circular _pad_enum adjoint alias alias_copy
atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cartesian_prod cat chunk
clone column_stack combinations concat concatenate constant_pad_nd contiguous copy detach
detach_copy diag diag_embed diagflat diagonal diagonal_copy dsplit dstack expand expand_as
expand_copy fill flatten flip fliplr flipud hsplit hstack lift_fresh lift_fresh_copy mH mT matrix_H
meshgrid moveaxis movedim narrow narrow_copy numpy_T pad pad_sequence permute permute_copy ravel
reflection_pad1d reflection_pad2d reflection_pad3d repeat replication_pad1d replication_pad2d
replication_pad3d reshape reshape_as roll rot90 row_stack select select_copy slice slice_copy split
split_copy split_with_sizes split_with_sizes_copy squeeze squeeze_copy stack swapaxes swapdims t
t_copy tensor_split tile transpose transpose_copy tril triu unbind unbind_copy unflatten unfold
unfold_copy unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy view view_as
view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack zero
_cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short _to_copy
_to_cpu _autocast_to_full_precision _autocast_to_reduced_precision chalf data to type_as arange
bartlett_window blackman_window eye full full_like hamming_window hann_window kaiser_window
linspace logspace new_full new_ones new_zeros ones ones_like range scalar_tensor tril_indices
triu_indices zeros zeros_like
"""

_OF_SIZES = """
_assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async
_functional_assert_scalar _functional_sym_constrain_range _functional_sym_constrain_range_for_size
_local_scalar_dense can_cast dim is_complex is_floating_point is_nonzero is_same_size is_signed
item numel promote_types result_type size stride sym_constrain_range sym_constrain_range_for_size
sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride
"""

_OF_PRIMS = """
abs acos acosh add amax amin asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e
bessel_j0 bessel_j1 bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_in_dim cat cbrt ceil
clone collapse collapse_view conj conj_physical convert_element_type cos cosh device_put digamma eq
erf erf_inv erfc erfcx exp exp2 expm1 fft_c2c fft_r2c fill floor fmax fmin fmod frexp full
full_like gcd ge gt hypot igamma igammac imag iota isfinite le lgamma log log10 log1p log2 lt
maximum maximum_value minimum minimum_value mul ndtri ne neg nextafter pow prod real reciprocal
remainder reshape rev round rsqrt scalar_tensor shift_left shift_right_arithmetic sign signbit sin
sinh spherical_bessel_j0 split_dim sqrt squeeze sub sum svd tan tanh transpose trunc var view_of
where xor_sum zeta
"""

SWITCHED = words(
    """
    _scaled_dot_product_attention_math _scaled_dot_product_cudnn_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention alpha_dropout
    dropout feature_alpha_dropout feature_dropout native_dropout rrelu
    """
)
"""Operators that draw random numbers unless their arguments switch that off."""

UNWRITTEN = words("empty empty_like empty_permuted empty_strided new_empty new_empty_strided")
"""Operators that allocate memory without writing to it; here it is filled with zeros."""

GUARDED = UNWRITTEN | words(
    """
    _batch_norm_no_update _fft_c2r _native_batch_norm_legit _native_batch_norm_legit_no_training
    _scaled_dot_product_flash_attention_for_cpu _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d _weight_norm _weight_norm_interface as_strided avg_pool2d avg_pool3d
    col2im div divide gru im2col linalg_eig _linalg_eigvals linalg_eigh linalg_eigvals
    linalg_eigvalsh linalg_lu_solve lstm lu_solve native_batch_norm rnn_relu rnn_tanh
    scaled_dot_product_attention upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    """
)
"""Operators that run with further checks around them."""

GUARDED_PRIMS = words("div empty empty_permuted empty_strided")

_IN_PLACE_ALONE = frozenset(["fill_diagonal_"])
_NEVER_IN_PLACE = frozenset(["as_strided_"])

OPERATORS = (SWITCHED | GUARDED | _IN_PLACE_ALONE).union(
    *map(
        words,
        [_OF_ELEMENTS, _OF_LAYERS, _OF_AXES, _OF_MATRICES, _OF_INDICES, _OF_SHAPE, _OF_SIZES],
    )
)
"""The names of PyTorch's operators (aten) that a program may have, but for in-place forms."""

PRIMS = words(_OF_PRIMS) | GUARDED_PRIMS
"""The names of PyTorch's primitive operators (prims) that a program may have."""


def is_listed(namespace: str, name: str) -> bool:
    """Return whether a program may have an operator, or the operator that it is in place."""
    if namespace == "prims":
        return name in PRIMS
    if namespace != "aten" or name in _NEVER_IN_PLACE:
        return False
    return name in OPERATORS or (name.endswith("_") and name[:-1] in OPERATORS)


def is_guarded(namespace: str, name: str) -> bool:
    """Return whether an operator runs with further checks around it."""
    if namespace == "prims":
        return name in GUARDED_PRIMS
    return namespace == "aten" and name.removesuffix("_") in GUARDED

// A product on matrix units that multiply blocks of 8 x 8.

enable f16;
enable wgpu_cooperative_matrix;

// #import matmul_units

const SIDE: u32 = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;

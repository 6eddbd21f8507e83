// The engine's own kernel, made to PTX by `cargo xtask kernels` like ours:
// y[row] = bias[row] + sum over column of weights[row][column] * x[column], in
// wrapping 32-bit arithmetic. One thread takes one row.

#if defined(__clang__) && !defined(__CUDACC_RTC__)
#define __global__ __attribute__((global))
#endif

extern "C" __global__ void matvec_i8(const signed char *weights, const int *bias,
                                     const signed char *x, int *y, unsigned rows,
                                     unsigned columns) {
    unsigned block, threads, thread;
    asm("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    asm("mov.u32 %0, %%ntid.x;" : "=r"(threads));
    asm("mov.u32 %0, %%tid.x;" : "=r"(thread));
    unsigned row = block * threads + thread;
    if (row >= rows) return;
    const signed char *line = weights + (unsigned long long)row * columns;
    unsigned sum = (unsigned)bias[row];
#pragma unroll 1
    for (unsigned column = 0; column < columns; column++) {
        sum += (unsigned)(line[column] * x[column]);
    }
    y[row] = (int)sum;
}

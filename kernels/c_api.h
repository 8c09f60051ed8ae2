/* c_api.h: the kernels behind a C interface, for programs in other languages: pointers, sizes, a stream, a status. The library is libprnn_c.so.
 *
 * Use: open a device; ask how much workspace a problem needs; make a plan in it; launch the plan on a stream, as often as wanted.
 * prnn_launch allocates no memory of the device and never waits for it; seq_graph, and newton_unfused where it is adaptive, record a graph at their first launch
 * with a set of pointers. Every other function may allocate and wait. A plan is used by one thread at a time, on one stream at a time; plans are independent.
 *
 * Tensors (shapes slowest axis first, channel fastest; I, K, W as prnn_sizes says; aligned to 16 bytes; in the memory of the device):
 *   u [B, L, I, D], a [W, D], h [B, L, K, D], grad_h [B, L, G, D], du [B, L, I, D]        in the storage type
 *   h0, last, grad_last, dh0 [B, K, D], da [W, D]                                         in the compute type: f64 for f64, else f32
 * Pass forward reads u, a, h0 and writes h, last. Pass backward reads u, a, h0, h, grad_h, grad_last and writes du, da, dh0. Pass both reads u, a, h0, grad_h,
 * grad_last and writes h, last, du, da, dh0. What a pass does not use is ignored.
 *   h_l = f(h_{l-1}, u_l);  loss = <grad_h, h> + <grad_last, last>
 * G = K (grad "all") or 1 (grad "output": by the last component alone); grad "squares": loss = |h|^2 + <grad_last, last>, and grad_h is ignored.
 * Cells and solvers: README.md, `prnn list`. Source: Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1 and 2.6.
 */
#ifndef PRNN_C_API_H
#define PRNN_C_API_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function or a struct changes so that a program compiled against an older one would fail; a new function, or a field at a struct's end, does not. */
#define PRNN_C_API_VERSION 1

#if defined(__GNUC__)
#define PRNN_C_API __attribute__((visibility("default")))
#else
#define PRNN_C_API
#endif

/* The version of the library, to be compared with PRNN_C_API_VERSION. */
PRNN_C_API int prnn_c_api_version(void);

typedef enum PrnnStatus {
  kPrnnOk = 0,
  kPrnnBadInput = 64,    /* an argument that cannot be used */
  kPrnnUndefined = 65,   /* this solver does not solve this problem on this device */
  kPrnnOutOfMemory = 66, /* of the host or the device */
  kPrnnDeviceError = 67  /* a call or a launch failed, or the device is not here */
} PrnnStatus;

/* One line about the last call of this thread that did not return kPrnnOk: what, where, what was expected. Valid until the next such call. */
PRNN_C_API const char* prnn_message(void);

/* What is solved. All bytes 0 but `size`, cell and the three extents is a forward pass in f32 by solver auto. */
typedef struct PrnnProblem {
  int64_t size;            /* sizeof(PrnnProblem) */
  const char* cell;        /* gru_diag | lstm_cifg_diag | elman_diag ... */
  const char* solver;      /* NULL: auto */
  const char* pass;        /* forward | backward | both; NULL: forward */
  const char* storage;     /* f32 | f64 | bf16 | f16; NULL: f32 */
  const char* grad;        /* all | output | squares; NULL: all */
  const char* gates;       /* exact | approx; NULL: exact */
  int64_t batch;           /* B >= 1 */
  int64_t seq_len;         /* L >= 1 */
  int64_t hidden;          /* D >= 1 */
  int64_t iteration_limit; /* 0: adaptive, checked; n: exactly n iterations, unchecked */
  int64_t accumulate_da;   /* not 0: da += instead of da = */
} PrnnProblem;

/* Pointers into the device's memory. h0 and grad_last may be NULL: zero. last and dh0 may be NULL: not wanted. */
typedef struct PrnnTensors {
  const void* u;
  const void* a;
  const void* h0;
  void* h; /* pass backward only reads it */
  void* last;
  const void* grad_h;
  const void* grad_last;
  void* du;
  void* da;
  void* dh0;
} PrnnTensors;

typedef struct PrnnSizes {
  int64_t inputs, states, weights; /* I, K, W of the cell */
  int64_t gradients;               /* G; 0: no grad_h is read */
  int64_t bytes_min;               /* that the pass has to move: design section 3 */
  int64_t flops;
} PrnnSizes;

/* What a launch says about itself; -1 where the solver has no such number. */
typedef struct PrnnOutcome {
  int64_t converged;                             /* 1, 0, or -1: nothing was checked */
  int64_t iterations;                            /* linear solves, the most over channels */
  int64_t rounds, boundaries, boundaries_failed; /* of solvers that cut the sequence */
  int64_t nonfinite_b, nonfinite_l, nonfinite_d; /* the first element that is not finite */
} PrnnOutcome;

/* Largest error over its bound of every element of an output, by the local test (design section 6, test 1), without the factor c = 16; -1: no output of the pass. */
typedef struct PrnnRatios {
  double h, du, da, dh0;
} PrnnRatios;

typedef struct PrnnDevice PrnnDevice;
typedef struct PrnnPlan PrnnPlan;

/* device: cpu | cuda (the first GPU that CUDA_VISIBLE_DEVICES leaves). */
PRNN_C_API PrnnStatus prnn_device_open(const char* device, PrnnDevice** opened);
/* After its plans; NULL is ignored. */
PRNN_C_API void prnn_device_close(PrnnDevice* device);
/* Measured once: bytes a second, read and written, of the best copy of 1 GiB (cpu: 4 x the last-level cache), and seconds of an empty launch. */
PRNN_C_API PrnnStatus prnn_device_rates(PrnnDevice* device, double* copy_bytes_per_s, double* launch_s);

PRNN_C_API PrnnStatus prnn_sizes(const PrnnProblem* problem, PrnnSizes* sizes);
/* Bytes of the device's memory that a plan works in; none of it is read before the plan has written it. */
PRNN_C_API PrnnStatus prnn_workspace_bytes(PrnnDevice* device, const PrnnProblem* problem, int64_t* bytes);
/* A plan in workspace [bytes], which is the caller's, aligned to 256 bytes, and used by this plan alone until it is destroyed. */
PRNN_C_API PrnnStatus prnn_plan_create(PrnnDevice* device, const PrnnProblem* problem, void* workspace, int64_t bytes, PrnnPlan** plan);
/* When its launches are done; NULL is ignored. */
PRNN_C_API void prnn_plan_destroy(PrnnPlan* plan);
/* What solves: "seq_fused", or solver auto's choice. Valid while the plan is. */
PRNN_C_API const char* prnn_plan_solver(const PrnnPlan* plan);

/* Enqueues the pass. stream: a cudaStream_t; NULL is CUDA's default stream, and nothing on the cpu, where the pass is done on return. */
PRNN_C_API PrnnStatus prnn_launch(PrnnPlan* plan, const PrnnTensors* tensors, void* stream);
/* Of the last launch, which must be done: the caller has waited for its stream. */
PRNN_C_API PrnnStatus prnn_outcome(PrnnPlan* plan, PrnnOutcome* outcome);

/* For tests and benchmarks: every input of the pass as `prnn run` draws it (regime and h0 as in a suite; pass backward: h too), when this returns. */
PRNN_C_API PrnnStatus prnn_draw(PrnnDevice* device, const PrnnProblem* problem, const char* regime, const char* h0, uint64_t seed, const PrnnTensors* tensors);
/* The local test of the outputs of a pass, which must be done; no tensor of the pass may be NULL. */
PRNN_C_API PrnnStatus prnn_judge(PrnnDevice* device, const PrnnProblem* problem, const PrnnTensors* tensors, PrnnRatios* ratios);

#ifdef __cplusplus
}
#endif
#endif

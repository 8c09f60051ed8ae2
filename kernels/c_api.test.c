/* c_api.test.c: a program in C, in C99, that knows kernels/c_api.h alone: links, solves, says what is wrong. Exit status: the checks that failed. */
#include "kernels/c_api.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { kSteps = 7, kChannels = 3 };

static int failures = 0;

static void check(int right, const char* what) {
  if (right) return;
  fprintf(stderr, "c_api.test.c: not so: %s (%s)\n", what, prnn_message());
  ++failures;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* A step's error: a gate's (3e-16, twice: the library's and this file's) by |dh/dz| <= 2, |dh/dc| <= 1 and |dh/dr| <= 1, and 4 roundings of numbers up to 1. With
   |a| <= 0.5 a step multiplies it by at most 1.08, so 7 steps by less than 2. */
static const double kBound = 2 * kSteps * (2 * (2 + 1 + 1) * 3e-16 + 4 * 1.2e-16);

/* Of h_l = f(h_{l-1}, u_l) for gru_diag, written here again: the largest difference of h from it. */
static double worst_difference(const double* u, const double* a, const double* h) {
  double worst = 0;
  for (int d = 0; d < kChannels; ++d) {
    double before = 0;
    for (int l = 0; l < kSteps; ++l) {
      const double* in = u + l * 3 * kChannels + d;
      const double z = sigmoid(a[d] * before + in[0]), r = sigmoid(a[kChannels + d] * before + in[kChannels]);
      const double c = tanh(a[2 * kChannels + d] * (before * r) + in[2 * kChannels]);
      before = (1 - z) * before + z * c;
      worst = fmax(worst, fabs(before - h[l * kChannels + d]));
    }
  }
  return worst;
}

int main(void) {
  check(prnn_c_api_version() == PRNN_C_API_VERSION, "the library has the header's version");

  PrnnDevice* device = NULL;
  check(prnn_device_open("none", &device) == kPrnnBadInput && device == NULL && strstr(prnn_message(), "none") != NULL, "an unknown device is refused by name");
  check(prnn_device_open("cpu", &device) == kPrnnOk && device != NULL, "the cpu opens");

  PrnnProblem problem;
  memset(&problem, 0, sizeof problem);
  problem.size = sizeof problem;
  problem.cell = "gru_diag";
  problem.storage = "f64";
  problem.batch = 1;
  problem.seq_len = kSteps;
  problem.hidden = kChannels;
  int64_t bytes = -1;
  check(prnn_workspace_bytes(device, &problem, &bytes) == kPrnnOk && bytes > 0 && bytes <= 4096, "a small problem takes a small workspace");

  static union {
    char bytes[4096 + 256];
    double aligned;
  } memory;
  void* const workspace = (void*)(((uintptr_t)memory.bytes + 255) / 256 * 256);
  PrnnPlan* plan = NULL;
  check(prnn_plan_create(device, &problem, workspace, bytes, &plan) == kPrnnOk && plan != NULL, "a plan is made");
  check(strlen(prnn_plan_solver(plan)) > 0, "auto says what it chose");

  static struct { double u[kSteps * 3 * kChannels + 1], a[3 * kChannels + 1], h[kSteps * kChannels + 1]; } t;
  PrnnTensors tensors;
  memset(&tensors, 0, sizeof tensors);
  double* const u = (double*)(((uintptr_t)t.u + 15) / 16 * 16);
  double* const a = (double*)(((uintptr_t)t.a + 15) / 16 * 16);
  double* const h = (double*)(((uintptr_t)t.h + 15) / 16 * 16);
  for (int i = 0; i < kSteps * 3 * kChannels; ++i) u[i] = sin(1.0 + i);
  for (int i = 0; i < 3 * kChannels; ++i) a[i] = 0.5 * cos(2.0 + i);
  tensors.u = u;
  tensors.a = a;
  check(prnn_launch(plan, &tensors, NULL) == kPrnnBadInput && strstr(prnn_message(), "tensors.h") != NULL, "an output that is not there is refused by name");
  tensors.h = h;
  check(prnn_launch(plan, &tensors, NULL) == kPrnnOk, "it launches");
  check(worst_difference(u, a, h) <= kBound, "h is the recurrence's");
  PrnnOutcome outcome;
  check(prnn_outcome(plan, &outcome) == kPrnnOk && outcome.nonfinite_b == -1, "every state is finite");

  prnn_plan_destroy(plan);
  prnn_device_close(device);
  prnn_plan_destroy(NULL);
  prnn_device_close(NULL);
  return failures;
}

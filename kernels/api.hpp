// api.hpp: all that harness/ sees of the kernels: a problem, the machine it runs on, a solver prepared for it, and what came of a launch.
// Plain C++, no CUDA, no cell. An op (recurrence, reduction) declares its tensors, its bytes, how they are drawn and how a result is judged.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/fault.hpp"

namespace prnn {

// ---------------------------------------------------------------------------------------------------------------------
// Storage

enum class Storage { f32, f64, bf16, f16 };
inline constexpr Storage kStorages[] = {Storage::f32, Storage::f64, Storage::bf16, Storage::f16};

#ifndef __CUDACC_RTC__  // what is compiled at run time knows no more (kernels/runtime/)

std::string_view to_string(Storage);
std::optional<Storage> parse_storage(std::string_view);
std::int64_t size_of(Storage);     // bytes
double unit_roundoff(Storage);     // u_s
Storage compute_storage(Storage);  // the type that is computed in: f64 for f64, else f32

// ---------------------------------------------------------------------------------------------------------------------
// Problem and tensors

/// Launch policy: named integers (threads, steps_a_thread, channels_a_block, ...), printable and recorded.
using Policy = std::map<std::string, std::int64_t>;

/// One value of every axis that shapes the mathematics or the kernel (design section 2). grad: what pass backward's loss is by the states: all of their
/// components (all) or the last (output) carry a gradient that is given; squares: the sum of all components' squares, computed inside.
struct Problem {
  std::string op = "recurrence", scope = "kernel", cell /* of op reduction: the Jacobian, diag | 2x2 */, pass = "forward", grad = "all";
  Storage storage = Storage::f32;
  std::int64_t batch = 1, hidden = 64, seq_len = 256;
  std::string regime = "paper";
  std::optional<double> weight_std;  // overrides the regime's, unclipped
  std::string h0 = "zero";           // zero | random
  std::uint64_t seed = 1;
  std::string gates = "exact";
  std::optional<int> iteration_limit;                      // none: adaptive, checked; n: exactly n, unchecked
  bool accumulate_da = false;                              // backward: da += instead of da =
  Policy policy;                                           // overrides of the shipped one
  std::shared_ptr<const std::vector<unsigned char>> text;  // regimes text and trained: the bytes
};

/// state: the h that pass backward is given. gradient: of the loss by h and last, given too. weight_sum: an output that the batch shares.
enum class Role { input, weight, initial, state, gradient, output, last, weight_sum };

struct TensorSpec {
  std::string name;
  Role role;
  Storage type;
  std::vector<std::int64_t> shape;  // slowest axis first

  std::int64_t elements() const;
  std::int64_t bytes() const { return elements() * size_of(type); }
  bool written() const { return role == Role::output || role == Role::last || role == Role::weight_sum; }
  bool shared_by_batch() const { return role == Role::weight || role == Role::weight_sum; }
};

/// The tensors of one problem in some machine's memory. Does not own them.
struct Tensors {
  struct Item {
    TensorSpec spec;
    void* data = nullptr;
  };
  std::vector<Item> items;

  const Item* find(std::string_view name) const;  // null: there is none
  const Item& at(std::string_view name) const;    // throws std::out_of_range
  template <class T>
  T* data(std::string_view name) const {
    return static_cast<T*>(at(name).data);
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Machine: cpu | cuda | emulated

using Stream = void*;  // a cudaStream_t; null elsewhere

/// Input that a user gave and that cannot be used; the text is one line: where, what, what was expected. Exit code 64.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Too little memory: a case is skipped for it, never an error of the sweep.
struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A CUDA call or launch failed; the text names file, line and expression.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct GpuInfo {
  std::string name, driver;
  int sm = 0;               // 90 for compute capability 9.0
  int multiprocessors = 0;  // 0: not known
  std::int64_t memory_bytes = 0;
  double clock_mhz = 0;
};

/// One timed sample. time_s: between two events on the device (cpu: steady clock). host_s: steady clock around the same work.
struct Sample {
  double time_s = 0, host_s = 0;
};
/// A time in whole tenths of a nanosecond: finer than any clock here, and a number of few digits in a record.
inline double as_recorded_s(double time_s) { return std::round(time_s * 1e10) / 1e10; }

class Machine {
 public:
  virtual ~Machine() = default;
  virtual std::string_view device() const = 0;  // cpu | cuda | emulated
  virtual std::optional<GpuInfo> gpu() const { return {}; }
  virtual std::int64_t free_bytes() const = 0;
  virtual std::int64_t last_level_cache_bytes() const = 0;

  virtual void* allocate(std::int64_t bytes) = 0;  // throws OutOfMemory
  virtual void release(void*) noexcept = 0;
  virtual void upload(void* to, const void* from_host, std::int64_t bytes) = 0;
  virtual void download(void* to_host, const void* from, std::int64_t bytes) = 0;
  virtual void copy(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void fill(void* to, unsigned char byte, std::int64_t bytes) = 0;
  virtual bool equal(const void* a, const void* b, std::int64_t bytes) = 0;

  virtual Stream stream() = 0;
  virtual void synchronise() = 0;  // waits for the stream; throws DeviceError for what failed on it

  /// Times launch(stream) once. queued: the device waits behind a delay kernel until all is queued, so host gaps do not count.
  virtual Sample time(const std::function<void(Stream)>& launch, bool queued) = 0;
  /// Seconds of one launch inside a captured graph of `launches` of them (launch(stream, i), i = 0 .. launches-1); none where a graph cannot be captured.
  virtual std::optional<double> time_graph(const std::function<void(Stream, int)>& launch, int launches) = 0;
  /// Damage that is asked for (harness/inject.hpp), queued on the stream: so many multiply-adds of one thread, each waiting for the one before; the low bits of every element set to 0.
  virtual void spin(std::int64_t steps, Stream) = 0;
  virtual void clear_low_bits(void* data, std::int64_t elements, Storage type, int bits, Stream) = 0;
  /// Observed processor clock now, MHz; none where it cannot be read.
  virtual std::optional<double> clock_mhz() = 0;
  /// Best of the library's copy and a copy kernel of ours over >= 1 GiB (cpu: 4 x last-level cache), bytes read + written a second. Measured once.
  virtual double copy_bytes_per_s() = 0;
  /// Seconds of an empty launch between two events. Measured once.
  virtual double launch_s() = 0;
};

/// A kernel as a launch starts it.
struct KernelUse {
  std::string symbol;                                              // as the linker knows it
  std::int64_t launches = 0, blocks = 0;                           // so many launches of so many blocks each
  int threads = 0;                                                 // a block
  int registers = 0;                                               // a thread
  std::int64_t local_bytes = 0;                                    // a thread: spilled registers, and arrays that are indexed at run time
  std::int64_t static_shared_bytes = 0, dynamic_shared_bytes = 0;  // a block
  int blocks_a_multiprocessor = 0;                                 // that are resident at once
  double occupancy = 0;                                            // their threads over the most that a multiprocessor holds
};

/// A machine that knows what its kernels take is this too.
class KernelTeller {
 public:
  virtual ~KernelTeller() = default;
  /// The kernels that launch(stream) would start, in the order of their first launch; runs nothing. Throws DeviceError for what cannot stand in a captured graph.
  virtual std::vector<KernelUse> kernels(const std::function<void(Stream)>& launch) = 0;
};

/// Every machine this build has and this computer can run; a machine that is absent gives the reason in one line.
struct MachineEntry {
  std::string device;
  std::unique_ptr<Machine> (*open)();  // throws DeviceError with the reason
  std::string (*why_not)();            // empty: can be opened
  std::string what_is_not = {};        // of the machine that it stands for, and is not seen on it
};
std::vector<MachineEntry>& machines();

class Buffer {
 public:
  Buffer() = default;
  Buffer(Machine& machine, std::int64_t bytes) : machine_(&machine), data_(machine.allocate(bytes)), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() {
    if (data_) machine_->release(data_);
  }
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(machine_, other.machine_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Machine* machine_ = nullptr;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Solver

/// What a launch says about itself, read after its stream is done (design section 3, "solver").
struct Outcome {
  std::optional<std::int64_t> iterations;    // linear solves, the most over channels and tiles; none for sequential solvers
  std::optional<std::int64_t> steps_a_tile;  // that Newton's method takes at once; tiles follow each other
  std::optional<bool> converged;             // none: nothing was checked (fixed count)
  std::optional<std::int64_t> rounds, boundaries, boundaries_failed;
  std::vector<double> residual_max, step_max;            // after trace() only; k = 0 is the guess
  std::optional<std::array<std::int64_t, 3>> nonfinite;  // first (b, l, d) that is not finite
};

/// A solver prepared for one problem on one machine: owns its workspace, allocates nothing later.
class Run {
 public:
  virtual ~Run() = default;
  virtual Policy policy() const { return {}; }
  virtual std::string_view solver() const { return {}; }  // the solver that runs where this one only chose it; empty: itself
  virtual int launches() const = 0;                       // kernel launches (cpu: passes) of one launch()
  virtual bool capturable() const { return true; }        // may stand inside a captured graph
  /// Enqueues the solve on the stream; never synchronises, checks every launch. Reads inputs, writes every element of every output.
  virtual void launch(const Tensors&, Stream) = 0;
  /// As launch, and records residual and step per iteration; never timed. Sequential solvers need not override it.
  virtual void trace(const Tensors& tensors, Stream stream) { launch(tensors, stream); }
  /// Of the last launch or trace; call when the stream is done.
  virtual Outcome outcome() = 0;
};

/// A parameter of a solver's launch policy, and the values that it may have: those from least to most that are multiples of `multiple`, or powers of two.
struct PolicyParameter {
  std::string key;
  std::int64_t least = 1, most = 1, multiple = 1;
  bool powers_of_two = false, compiled = false;  // compiled: an argument of the kernel's template

  bool accepts(std::int64_t value) const;
  std::string values() const;  // "a multiple of 32 from 32 to 256"
};
using PolicySpace = std::vector<PolicyParameter>;

/// A kernel as the sources that the program carries name it, and whether it was compiled with the program.
struct KernelSource {
  std::string file;                    // from their root
  std::string expression;              // its instance: prnn::cuda::step_kernel<prnn::GruDiag, float>
  bool ahead = false;                  // compiled with the program
  std::string header, header_content;  // a cell of a user's: the file, for messages, and what it says
};
/// What came of compiling one. error: the compiler's messages; empty: it did.
struct CompiledKernel {
  std::string symbol, cubin, error;
  int registers = 0, stack_bytes = 0, spill_bytes = 0;  // of a thread; spill: stored and loaded
  bool cached = false;                                  // it was on disk
  double compile_s = 0;
};
/// Empty: kernels can be compiled on this computer (NVRTC is there; a GPU need not be); else why not, in one line.
std::string kernel_compiler_why_not();
/// Compiles each for compute capability sm (90: 9.0), some at once on as many threads as the computer has; one result a kernel. Throws DeviceError where there is no compiler.
std::vector<CompiledKernel> compile_kernels(const std::vector<KernelSource>& kernels, int sm);
/// From now on compiled kernels are kept in this directory, by the content of all that they are made from, and found there.
void keep_compiled_kernels(const std::string& directory);

struct Solver {
  std::string name, device, cell;
  Storage storage;
  std::string pass = "forward";                        // forward | backward; both: see find_solver
  bool iterates = false;                               // honours iteration_limit; the others are undefined at a fixed count
  bool deterministic = true;                           // bitwise the same on every run
  std::function<std::string(const Problem&)> why_not;  // empty: defined; else why this combination is not
  std::function<std::int64_t(const Problem&)> workspace_bytes;
  std::function<std::unique_ptr<Run>(const Problem&, Machine&)> prepare;
  PolicySpace space = {};                                                 // what Problem::policy may say; why_not knows what does not go together
  std::function<std::vector<KernelSource>(const Problem&)> kernels = {};  // that launch() runs; null: all of them are compiled with the program
};
std::vector<Solver>& solvers();  // filled before main() by the solver files; forward or backward each
/// The solver for a problem's cell, storage and pass; null where there is none. Pass both: a forward solver followed by the backward one of that name
/// or, where that has none, its counterpart (kernels/solvers/both.cpp).
const Solver* find_solver(std::string_view name, std::string_view device, const Problem&);
/// Names of all solvers on any device, in the order of the ladder (slowest idea first); of one op, if it is named.
std::vector<std::string> solver_names(std::string_view op = {});
/// The text of the measured times that solver auto chooses by (kernels/primitives/measured.hpp).
std::string_view auto_table();

// ---------------------------------------------------------------------------------------------------------------------
// Op: what is computed and how a result is judged (design section 6)

/// The larger; NaN if either is NaN, so that a maximum never loses one.
constexpr double max_or_nan(double a, double b) { return PRNN_FAULT(16, a != a ? a : !(b <= a) ? b : a, b > a ? b : a); }

/// Error of an output against the truth (design section 3, "error"). Ratios are error over the bound without c.
struct ErrorReport {
  std::optional<double> abs_max, rel_max, ulp_max, ulp_p99, rms;  // against the reference
  double ratio_local = 0;                                         // test 1: all channels and steps; 0 where it was not taken
  std::optional<double> ratio_forward;                            // test 2: sampled channels
  std::optional<std::int64_t> verified_prefix;
  std::vector<std::array<std::int64_t, 2>> channels_checked;  // (b, d)
  std::string reference;                                      // which truth: "mpfr50, 50 and 40 digits" ...; empty: none
  std::string null_reason;                                    // why the optional fields are absent
  double test_ratio() const { return max_or_nan(ratio_local, ratio_forward.value_or(0)); }
};

/// Test 1 of each output: every channel and step, in double. Largest error over bound (NaN if an element is NaN without cause); none: no such output.
struct LocalRatios {
  std::optional<double> h, du, da, dh0;
  double worst() const { return max_or_nan(max_or_nan(h.value_or(0), du.value_or(0)), max_or_nan(da.value_or(0), dh0.value_or(0))); }
};

struct Op {
  std::string name;
  std::string axis;                     // of a suite that names what the op is done with: cells | jacobian; Problem.cell holds the name
  std::vector<std::string> (*cells)();  // those names
  std::vector<TensorSpec> (*tensors)(const Problem&);
  std::int64_t (*bytes_min)(const Problem&);  // design section 3
  std::int64_t (*flops)(const Problem&);
  std::int64_t (*special)(const Problem&);  // exponentials and reciprocals
  std::string (*why_not)(const Problem&);   // empty: this build has it; else one clear line
  /// Draws every input of the problem into tensors, on the machine.
  void (*draw)(const Problem&, Machine&, const Tensors&);
  /// Test 1, on the machine.
  LocalRatios (*local_ratios)(const Problem&, Machine&, const Tensors&);
  double ratio_local(const Problem& problem, Machine& machine, const Tensors& tensors) const { return local_ratios(problem, machine, tensors).worst(); }
  /// One channel of a tensor as doubles: u [L, kInputs], h [L, kState], a [kWeights], h0 and last [kState], and so their gradients; grad_h [L, G].
  std::vector<double> (*channel)(const Problem&, Machine&, const Tensors&, std::string_view tensor, std::int64_t b, std::int64_t d);
};
const std::vector<Op>& ops();
const Op& find_op(std::string_view name);  // throws std::out_of_range
/// Names of the regimes this build draws.
std::vector<std::string> regime_names();
/// Whether a regime's inputs are the bytes of Problem::text.
bool reads_text(std::string_view regime);
/// Changes whenever a drawn bit does (kGeneratorVersion): part of a record's fingerprint.
int generator_version();

#endif  // __CUDACC_RTC__

}  // namespace prnn

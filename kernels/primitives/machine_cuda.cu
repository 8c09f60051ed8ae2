// machine_cuda.cu: the device "cuda": one GPU (the first that CUDA_VISIBLE_DEVICES leaves), one stream, CUDA events.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

#include "kernels/primitives/device.cuh"

namespace prnn::cuda {
namespace {

/// Nanoseconds of the clock that all of the GPU shares; its steps are up to 1 us.
PRNN_DEVICE std::int64_t global_time_ns() {
  std::int64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

/// Host memory that the device sees: how the host opens the way for what it has queued.
struct Gate {
  volatile int open;       // host -> device
  volatile int timed_out;  // device -> host
};

PRNN_KERNEL empty_kernel() {}

/// Holds the stream until the host opens the gate, at most limit_ns: a host that itself waits for the device is never locked out.
PRNN_KERNEL hold_kernel(Gate* gate, std::int64_t limit_ns) {
  const std::int64_t start = global_time_ns();
  while (!gate->open) {
    if (global_time_ns() - start > limit_ns) {
      gate->timed_out = 1;
      return;
    }
  }
}

/// ticks [2]: processor cycles and nanoseconds that passed in one stretch of at least least_ns.
PRNN_KERNEL clock_kernel(std::int64_t least_ns, std::int64_t* ticks) {
  std::int64_t start_ns = global_time_ns();
  for (const std::int64_t before = start_ns; start_ns == before;) start_ns = global_time_ns();  // from one step of the coarse clock to another
  const std::int64_t start_cycles = clock64();
  std::int64_t end_ns = start_ns;
  while (end_ns - start_ns < least_ns) end_ns = global_time_ns();
  ticks[0] = clock64() - start_cycles;
  ticks[1] = end_ns - start_ns;
}

constexpr int kThreads = 256, kWordsAThread = 4;

/// words of 16 bytes, each read and written once and not kept in cache.
PRNN_KERNEL copy_kernel(const uint4* from, uint4* to, std::int64_t words) {
  const std::int64_t first = block_index() * (kThreads * kWordsAThread) + thread_index();
  uint4 held[kWordsAThread];
#pragma unroll
  for (int i = 0; i < kWordsAThread; ++i) {
    if (first + i * kThreads < words) held[i] = __ldcs(from + first + i * kThreads);
  }
#pragma unroll
  for (int i = 0; i < kWordsAThread; ++i) {
    if (first + i * kThreads < words) __stcs(to + first + i * kThreads, held[i]);
  }
}

PRNN_KERNEL differ_kernel(const unsigned char* a, const unsigned char* b, std::int64_t bytes, int* differ) {
  const std::int64_t me = block_index() * thread_count() + thread_index(), all = block_count() * thread_count();
  const bool aligned = (reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b)) % 8 == 0;
  const std::int64_t words = aligned ? bytes / 8 : 0;
  const auto* a_words = reinterpret_cast<const std::uint64_t*>(a);
  const auto* b_words = reinterpret_cast<const std::uint64_t*>(b);
  bool found = false;
  for (std::int64_t i = me; i < words; i += all) found |= a_words[i] != b_words[i];
  for (std::int64_t i = words * 8 + me; i < bytes; i += all) found |= a[i] != b[i];
  if (found) atomic_or(differ, 1);
}

/// words of 16 bits, keep those of an element, low ones first: every word loses what its mask lacks; then thread 0 does steps multiply-adds, each waiting for the one before.
struct Masks {
  std::uint16_t of[4];
};
PRNN_KERNEL damage_kernel(std::uint16_t* words, std::int64_t count, Masks masks, int words_an_element, std::int64_t steps, float one, float* never_written) {
  const std::int64_t me = block_index() * thread_count() + thread_index(), all = block_count() * thread_count();
  for (std::int64_t i = me; i < count; i += all) words[i] &= masks.of[i % words_an_element];
  float x = one;  // which the compiler does not know
  for (std::int64_t i = me == 0 ? 0 : steps; i < steps; ++i) x = x * 0.5f + 0.5f;
  if (x != 1) *never_written = x;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  PRNN_CUDA(cudaDeviceGetAttribute(&value, which, 0));
  return value;
}

/// The kernel module's version, such as 580.65.06, where /proc tells it, and the newest CUDA that the driver knows.
std::string driver_version() {
  int number = 0;
  PRNN_CUDA(cudaDriverGetVersion(&number));
  std::string version = "CUDA " + std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word + ", " + version;
  }
  return version;
}

class CudaMachine : public Machine, public KernelTeller {
 public:
  CudaMachine() {
    PRNN_CUDA(cudaSetDevice(0));
    PRNN_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    for (cudaEvent_t& event : events_) PRNN_CUDA(cudaEventCreate(&event));
    PRNN_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&gate_), sizeof(Gate), cudaHostAllocMapped));
    PRNN_CUDA(cudaMalloc(reinterpret_cast<void**>(&scratch_), 2 * sizeof(std::int64_t)));
  }
  ~CudaMachine() override {
    cudaFree(scratch_);
    cudaFreeHost(gate_);
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }

  std::string_view device() const override { return kDevice; }
  std::optional<GpuInfo> gpu() const override {
    cudaDeviceProp properties;
    PRNN_CUDA(cudaGetDeviceProperties(&properties, 0));
    return GpuInfo{.name = properties.name,
                   .driver = driver_version(),
                   .sm = 10 * properties.major + properties.minor,
                   .multiprocessors = properties.multiProcessorCount,
                   .memory_bytes = std::int64_t(properties.totalGlobalMem),
                   .clock_mhz = attribute(cudaDevAttrClockRate) * 1e-3};
  }
  std::int64_t free_bytes() const override {
    std::size_t free = 0, total = 0;
    PRNN_CUDA(cudaMemGetInfo(&free, &total));
    return std::int64_t(free);
  }
  std::int64_t last_level_cache_bytes() const override { return attribute(cudaDevAttrL2CacheSize); }

  void* allocate(std::int64_t bytes) override {
    const std::int64_t free = free_bytes();
    if (bytes < 0 || bytes > free) throw OutOfMemory("needs " + std::to_string(bytes) + " bytes of GPU memory, " + std::to_string(free) + " are free");
    void* data = nullptr;
    PRNN_CUDA(cudaMalloc(&data, std::size_t(std::max<std::int64_t>(bytes, 1))));
    return data;
  }
  void release(void* data) noexcept override { cudaFree(data); }
  void upload(void* to, const void* from_host, std::int64_t bytes) override { transfer(to, from_host, bytes, cudaMemcpyHostToDevice); }
  void download(void* to_host, const void* from, std::int64_t bytes) override { transfer(to_host, from, bytes, cudaMemcpyDeviceToHost); }
  void copy(void* to, const void* from, std::int64_t bytes) override { PRNN_CUDA(cudaMemcpyAsync(to, from, std::size_t(bytes), cudaMemcpyDeviceToDevice, stream_)); }
  void fill(void* to, unsigned char byte, std::int64_t bytes) override { fill_async(to, byte, bytes, stream_); }
  bool equal(const void* a, const void* b, std::int64_t bytes) override {
    auto* differ = reinterpret_cast<int*>(scratch_);
    fill_async(differ, 0, sizeof(int), stream_);
    launch(&differ_kernel, 8 * attribute(cudaDevAttrMultiProcessorCount), kThreads, 0, stream_, static_cast<const unsigned char*>(a), static_cast<const unsigned char*>(b), bytes,
           differ);
    int answer = 0;
    download(&answer, differ, sizeof answer);
    return answer == 0;
  }

  Stream stream() override { return stream_; }
  void synchronise() override { PRNN_CUDA(cudaStreamSynchronize(stream_)); }

  /// host_s: from the first call to the end; queued: from the gate's opening to the end, what the device did as the host's clock saw it.
  /// A delay that ran out (a kernel's first launch loads its code, which waits for the device) is run again, longer; DeviceError after 2 s.
  Sample time(const std::function<void(Stream)>& work, bool queued) override {
    for (const double limit_s : {0.5, 1.0, 2.0}) {
      synchronise();
      gate_->open = 0;
      gate_->timed_out = 0;
      double start_s = now_s();
      if (queued) launch(&hold_kernel, 1, 1, 0, stream_, gate_, std::int64_t(limit_s * 1e9));
      {
        const Opener opener{gate_};  // also when work throws
        PRNN_CUDA(cudaEventRecord(events_[0], stream_));
        work(stream_);
        PRNN_CUDA(cudaEventRecord(events_[1], stream_));
        if (queued) start_s = now_s();
      }
      PRNN_CUDA(cudaEventSynchronize(events_[1]));
      const double host_s = now_s() - start_s;
      if (gate_->timed_out) continue;
      float milliseconds = 0;
      PRNN_CUDA(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]));
      return {as_recorded_s(milliseconds * 1e-3), as_recorded_s(host_s)};
    }
    throw DeviceError("the delay kernel ran out after 2 s: the work it should hold back takes longer than that to queue, or waits for the device");
  }

  /// Of a problem that cannot be captured it throws DeviceError; Run::capturable() says which.
  std::optional<double> time_graph(const std::function<void(Stream, int)>& work, int launches) override {
    CapturedGraph graph([&](Stream stream) {
      for (int i = 0; i < launches; ++i) work(stream, i);
    });
    const auto replay = [&](Stream stream) { graph.launch(stream); };
    time(replay, false);  // the first replay uploads the graph
    std::vector<double> samples_s(7);
    for (double& sample : samples_s) sample = time(replay, true).time_s;
    return as_recorded_s(median(samples_s) / launches);
  }

  std::vector<KernelUse> kernels(const std::function<void(Stream)>& work) override {
    const detail::OwnedGraph graph = detail::make_graph();
    detail::capture_into(graph.get(), work);
    std::size_t count = 0;
    PRNN_CUDA(cudaGraphGetNodes(graph.get(), nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    PRNN_CUDA(cudaGraphGetNodes(graph.get(), nodes.data(), &count));
    std::vector<KernelUse> uses;
    for (const cudaGraphNode_t node : nodes) {
      cudaGraphNodeType type{};
      PRNN_CUDA(cudaGraphNodeGetType(node, &type));
      if (type != cudaGraphNodeTypeKernel) continue;
      const KernelUse use = kernel_use(node);
      const auto known = std::find_if(uses.begin(), uses.end(), [&](const KernelUse& other) {
        return other.symbol == use.symbol && other.blocks == use.blocks && other.threads == use.threads && other.dynamic_shared_bytes == use.dynamic_shared_bytes;
      });
      if (known == uses.end()) uses.push_back(use);
      else ++known->launches;
    }
    return uses;
  }

  void spin(std::int64_t steps, Stream stream) override {
    launch(&damage_kernel, 1, kWarp, 0, stream, static_cast<std::uint16_t*>(nullptr), std::int64_t(0), Masks{}, 1, steps, 1.0f, reinterpret_cast<float*>(scratch_));
  }
  void clear_low_bits(void* data, std::int64_t elements, Storage type, int bits, Stream stream) override {
    Masks masks{{0xffff, 0xffff, 0xffff, 0xffff}};
    masks.of[0] = std::uint16_t(0xffff << bits);
    const int words = int(size_of(type) / 2);
    launch(&damage_kernel, 2 * attribute(cudaDevAttrMultiProcessorCount), kThreads, 0, stream, static_cast<std::uint16_t*>(data), elements * words, masks, words, std::int64_t(0),
           1.0f, reinterpret_cast<float*>(scratch_));
  }

  std::optional<double> clock_mhz() override {
    launch(&clock_kernel, 1, 1, 0, stream_, std::int64_t(300'000), scratch_);
    std::int64_t ticks[2];
    download(ticks, scratch_, sizeof ticks);
    return 1e3 * double(ticks[0]) / double(ticks[1]);
  }

  double copy_bytes_per_s() override {
    if (copy_bytes_per_s_ > 0) return copy_bytes_per_s_;
    constexpr std::int64_t bytes = std::int64_t(1) << 30, words = bytes / std::int64_t(sizeof(uint4)), blocks = words / (kThreads * kWordsAThread);
    const Buffer from(*this, bytes), to(*this, bytes);
    fill(from.data(), 1, bytes);
    const auto best_s = [&](const std::function<void(Stream)>& work) {
      fill(to.data(), 0, bytes);
      double best = time(work, true).time_s;
      for (int repeat = 0; repeat < 10; ++repeat) best = std::min(best, time(work, true).time_s);
      if (!equal(from.data(), to.data(), bytes)) throw DeviceError("the copy whose rate is measured loses bytes");
      return best;
    };
    const double library_s = best_s([&](Stream) { copy(to.data(), from.data(), bytes); });
    const double ours_s = best_s([&](Stream stream) { launch(&copy_kernel, blocks, kThreads, 0, stream, from.as<const uint4>(), to.as<uint4>(), words); });
    copy_bytes_per_s_ = 2.0 * double(bytes) / std::min(library_s, ours_s);
    return copy_bytes_per_s_;
  }

  double launch_s() override {
    if (launch_s_ > 0) return launch_s_;
    std::vector<double> samples_s(50);
    for (double& sample : samples_s) sample = time([](Stream stream) { launch(&empty_kernel, 1, kWarp, 0, stream); }, true).time_s;
    launch_s_ = median(samples_s);
    return launch_s_;
  }

 private:
  struct Opener {
    Gate* gate;
    ~Opener() { gate->open = 1; }
  };

  static KernelUse kernel_use(cudaGraphNode_t node) {
    cudaKernelNodeParams launch{};
    PRNN_CUDA(cudaGraphKernelNodeGetParams(node, &launch));
    const char* symbol = nullptr;
    PRNN_CUDA(cudaFuncGetName(&symbol, launch.func));
    cudaFuncAttributes attributes{};
    PRNN_CUDA(cudaFuncGetAttributes(&attributes, launch.func));
    const int threads = int(launch.blockDim.x * launch.blockDim.y * launch.blockDim.z);
    int resident = 0;
    PRNN_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, launch.func, threads, launch.sharedMemBytes));
    return {.symbol = symbol,
            .launches = 1,
            .blocks = std::int64_t(launch.gridDim.x) * launch.gridDim.y * launch.gridDim.z,
            .threads = threads,
            .registers = attributes.numRegs,
            .local_bytes = std::int64_t(attributes.localSizeBytes),
            .static_shared_bytes = std::int64_t(attributes.sharedSizeBytes),
            .dynamic_shared_bytes = std::int64_t(launch.sharedMemBytes),
            .blocks_a_multiprocessor = resident,
            .occupancy = double(resident) * threads / attribute(cudaDevAttrMaxThreadsPerMultiProcessor)};
  }

  void transfer(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
    PRNN_CUDA(cudaMemcpyAsync(to, from, std::size_t(bytes), kind, stream_));
    synchronise();
  }

  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, 2> events_{};
  Gate* gate_ = nullptr;
  std::int64_t* scratch_ = nullptr;
  double copy_bytes_per_s_ = 0, launch_s_ = 0;
};

std::string why_not() {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) return "no GPU";
  cudaFuncAttributes attributes;
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&empty_kernel));  // built for another architecture
  if (error == cudaSuccess) return "";
  (void)cudaGetLastError();
  return std::string("no GPU that runs this build: ") + cudaGetErrorString(error);
}

[[maybe_unused]] const bool registered = [] {
  machines().push_back({kDevice,
                        []() -> std::unique_ptr<Machine> {
                          if (const std::string reason = why_not(); !reason.empty()) throw DeviceError(reason);
                          return std::make_unique<CudaMachine>();
                        },
                        &why_not});
  return true;
}();

}  // namespace
}  // namespace prnn::cuda

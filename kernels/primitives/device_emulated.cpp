// device_emulated.cpp: runs a launch of the emulated GPU: a fiber a thread (Boost.Context), a barrier or shuffle is a switch back to the
// scheduler, which lets a warp run until all its lanes wait for the block or have ended, then the next warp, then releases the block.
#include "kernels/primitives/device_emulated.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace prnn::emulated {
namespace {

namespace context = boost::context;

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kMostThreads = 1024;
constexpr std::int64_t kMostBlocks = 2147483647;       // CUDA C++ programming guide, technical specifications: grid x
constexpr std::int64_t kMostSharedBytes = 227 * 1024;  // the same, compute capability 9.0

Schedule schedule;

/// Stacks live on between launches, each behind a guard page: an overflow faults instead of corrupting a neighbour.
class StackPool {
 public:
  ~StackPool() {
    for (auto& stack : free_) pages_.deallocate(stack);
  }
  context::stack_context take() {
    if (free_.empty()) return pages_.allocate();
    const context::stack_context stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give(const context::stack_context& stack) { free_.push_back(stack); }

 private:
  context::protected_fixedsize_stack pages_{kStackBytes};
  std::vector<context::stack_context> free_;
};
thread_local StackPool stacks;

struct PooledStack {
  context::stack_context allocate() { return stacks.take(); }
  void deallocate(context::stack_context& stack) { stacks.give(stack); }
};

enum class State { ready, barrier, barrier_or, shuffle, ended };
constexpr const char* kStateNames[] = {"runs", "waits at barrier()", "waits at barrier_or()", "waits at a shuffle", "has ended"};

struct Thread {
  context::fiber fiber, scheduler;
  State state = State::ready;
  bool predicate = false;      // barrier_or: brought, then the answer
  const void* mine = nullptr;  // shuffle
  void* theirs = nullptr;
  std::size_t bytes = 0;
  int source_lane = 0;
};

/// One block: its threads and what the running one does to wait.
class Block {
 public:
  Block(std::int64_t block, int threads, const std::function<void()>& body, std::mt19937_64& random) : block_(block), random_(random), threads_(std::size_t(threads)) {
    for (Thread& thread : threads_) {
      thread.fiber = context::fiber(std::allocator_arg, PooledStack{}, [this, &thread, &body](context::fiber&& scheduler) {
        thread.scheduler = std::move(scheduler);
        try {
          body();
        } catch (const context::detail::forced_unwind&) {
          throw;  // Boost.Context ends an abandoned fiber with it
        } catch (...) {
          error_ = std::current_exception();
        }
        thread.state = State::ended;
        return std::move(thread.scheduler);
      });
    }
  }

  /// Until all threads have ended.
  void run() {
    const int warps = (int(threads_.size()) + kWarp - 1) / kWarp;
    do {
      for (int warp : order(warps)) run_warp(warp);
    } while (release());
  }

  Thread& current() { return threads_[std::size_t(detail::here.thread)]; }

 private:
  /// 0 .. count-1 as the schedule says.
  std::vector<int> order(int count) {
    std::vector<int> turn(static_cast<std::size_t>(count));
    std::iota(turn.begin(), turn.end(), 0);
    if (schedule.order == Order::descending) std::reverse(turn.begin(), turn.end());
    if (schedule.order == Order::random) std::shuffle(turn.begin(), turn.end(), random_);
    return turn;
  }

  void run_warp(int warp) {
    const int first = warp * kWarp, lanes = std::min(kWarp, int(threads_.size()) - first);
    do {
      for (int lane : order(lanes)) {
        Thread& thread = threads_[std::size_t(first + lane)];
        if (thread.state != State::ready) continue;
        detail::here.thread = first + lane;
        thread.fiber = std::move(thread.fiber).resume();
        if (error_) std::rethrow_exception(error_);
      }
    } while (exchange(first, lanes));
  }

  /// Lets the lanes of a warp that all wait at a shuffle go on; false if none does.
  bool exchange(int first, int lanes) {
    Thread* const warp = &threads_[std::size_t(first)];
    const Thread* const end = warp + lanes;
    const Thread* const waiting = std::find_if(static_cast<const Thread*>(warp), end, [](const Thread& t) { return t.state == State::shuffle; });
    if (waiting == end) return false;
    if (lanes < kWarp) fail("a shuffle in a warp of " + std::to_string(lanes) + " lanes: all 32 must exist");
    for (const Thread* thread = warp; thread != end; ++thread) {
      if (thread->state != State::shuffle) fail(divergence(*waiting, *thread));
      if (thread->bytes != waiting->bytes) fail("divergent shuffle: " + name(*waiting) + " and " + name(*thread) + " of one warp exchange values of different sizes");
    }
    for (Thread* thread = warp; thread != end; ++thread) std::memcpy(thread->theirs, warp[thread->source_lane].mine, thread->bytes);
    for (Thread* thread = warp; thread != end; ++thread) thread->state = State::ready;
    return true;
  }

  /// Lets a block whose threads all wait at the same barrier go on; false if all have ended.
  bool release() {
    const State kind = threads_[0].state;
    bool any = false;
    for (const Thread& thread : threads_) {
      if (thread.state != kind) fail(divergence(threads_[0], thread));
      any |= thread.predicate;
    }
    if (kind == State::ended) return false;
    for (Thread& thread : threads_) {
      thread.predicate = any;
      thread.state = State::ready;
    }
    return true;
  }

  std::string name(const Thread& thread) const { return "thread " + std::to_string(&thread - threads_.data()); }
  std::string divergence(const Thread& a, const Thread& b) const {
    const bool exit = a.state == State::ended || b.state == State::ended;
    return std::string(exit ? "early exit: " : "divergent barrier: ") + name(a) + " " + kStateNames[int(a.state)] + ", " + name(b) + " " + kStateNames[int(b.state)];
  }
  [[noreturn]] void fail(const std::string& what) const { throw DeviceError("emulated: block " + std::to_string(block_) + ": " + what); }

  std::int64_t block_;
  std::mt19937_64& random_;
  std::exception_ptr error_;
  std::vector<Thread> threads_;  // destroyed first: a fiber that still waits is unwound then
};

thread_local Block* running = nullptr;

void wait(State kind) {
  Thread& thread = running->current();
  thread.state = kind;
  thread.scheduler = std::move(thread.scheduler).resume();
}

struct AlignedDelete {
  void operator()(unsigned char* p) const { ::operator delete[](p, std::align_val_t(16)); }
};

/// The i-th block to run, a bijection of 0 .. blocks-1. Random: multiples of a number without a common divisor, from a random start.
class BlockOrder {
 public:
  BlockOrder(std::int64_t blocks, std::mt19937_64& random) : blocks_(blocks) {
    if (schedule.order != Order::random) return;
    start_ = std::int64_t(random() % std::uint64_t(blocks));
    do stride_ = 1 + std::int64_t(random() % std::uint64_t(blocks));
    while (std::gcd(stride_, blocks) != 1);
  }
  std::int64_t operator()(std::int64_t i) const { return schedule.order == Order::descending ? blocks_ - 1 - i : (start_ + i * stride_) % blocks_; }

 private:
  std::int64_t blocks_, start_ = 0, stride_ = 1;
};

}  // namespace

void set_schedule(Schedule next) { schedule = next; }

namespace detail {

constinit thread_local Here here;

void wait_barrier() { wait(State::barrier); }

bool wait_barrier_or(bool predicate) {
  running->current().predicate = predicate;
  wait(State::barrier_or);
  return running->current().predicate;
}

void wait_shuffle(const void* mine, void* theirs, std::size_t bytes, int source_lane) {
  Thread& thread = running->current();
  thread.mine = mine;
  thread.theirs = theirs;
  thread.bytes = bytes;
  thread.source_lane = source_lane;
  wait(State::shuffle);
}

void launch(std::int64_t blocks, int threads, std::int64_t shared_bytes, const std::function<void()>& thread_body) {
  const auto refuse = [](const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value >= least && value <= most) return;
    throw DeviceError("emulated: a launch with " + std::to_string(value) + " " + what + ", not " + std::to_string(least) + " to " + std::to_string(most));
  };
  refuse("blocks", blocks, 1, kMostBlocks);
  refuse("threads a block", threads, 1, kMostThreads);
  refuse("bytes of shared memory", shared_bytes, 0, kMostSharedBytes);
  if (running) throw DeviceError("emulated: a kernel cannot launch a kernel");

  std::mt19937_64 random(schedule.seed);
  const BlockOrder block_at(blocks, random);
  const std::unique_ptr<unsigned char[], AlignedDelete> shared(static_cast<unsigned char*>(::operator new[](std::size_t(shared_bytes), std::align_val_t(16))));
  struct Leave {
    ~Leave() {
      running = nullptr;
      here = {};
    }
  } leave;
  for (std::int64_t i = 0; i < blocks; ++i) {
    std::memset(shared.get(), 0xff, std::size_t(shared_bytes));
    here = {.thread = 0, .threads = threads, .block = block_at(i), .blocks = blocks, .shared = shared.get()};
    Block block(here.block, threads, thread_body, random);
    running = &block;
    block.run();
  }
}

}  // namespace detail
}  // namespace prnn::emulated

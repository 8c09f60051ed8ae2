// device_emulated.cpp: runs a launch of the emulated GPU: a fiber a thread (Boost.Context), a barrier or shuffle is a switch back to the
// scheduler, which lets a warp run until all its lanes wait for the block or have ended, then the next warp, then releases the block;
// and a block until all its threads wait for the team or have ended, then the next block, then releases the team.
#include "kernels/primitives/device_emulated.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/primitives/source_lines.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }  // each fiber would need a fake stack for it
#endif

namespace prnn::emulated {
namespace {

namespace context = boost::context;
using detail::access;
using detail::Content;
using detail::set_contents;
using detail::Use;

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kMostThreads = 1024;
constexpr std::int64_t kMostBlocks = 2147483647;       // CUDA C++ programming guide, technical specifications: grid x
constexpr std::int64_t kMostSharedBytes = 227 * 1024;  // the same, compute capability 9.0
constexpr std::size_t kSharedAlignment = 128;
constexpr int kMostClusterBlocks = 16;           // the same, non-portable sizes
constexpr std::int64_t kMostTogether = 64;       // blocks of a cooperative launch, as on a small GPU ...
constexpr std::int64_t kMostFibers = 16 * 1024;  // ... and threads: a stack with its guard page takes 2 of the 65530 mappings Linux grants

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
  void deallocate(context::stack_context& stack) { stacks.give(stack); }
};

struct StackBounds {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
};
thread_local StackBounds left;  // of the stack that ran before this one; known under AddressSanitizer only

/// AddressSanitizer hears of every switch of stacks, before it and after it on the other stack: unwinding clears the wrong one otherwise.
void leave_for([[maybe_unused]] const StackBounds& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.bottom, to.bytes);
#endif
}
void arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &left.bottom, &left.bytes);
#endif
}

enum class State { ready, barrier, barrier_or, shuffle, phase, team_barrier, ended };
constexpr const char* kStateNames[] = {"runs",     "waits at barrier()", "waits at barrier_or()", "waits at a shuffle", "waits at wait_phase()", "waits at team_barrier()",
                                       "has ended"};
constexpr const char* kTeamNames[] = {"block", "cluster", "grid"};

/// An asynchronous copy that has not landed.
struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
  const void* from_code;  // as Record::code

  void start() const {
    access(from, bytes, Use::read, from_code);
    access(to, bytes, Use::write, from_code);
    set_contents(to, bytes, Content::landing);
  }
  void land() const {
    set_contents(to, bytes, Content::written);
    access(from, bytes, Use::read, from_code);
    access(to, bytes, Use::write, from_code);
    std::memcpy(to, from, bytes);
  }
};

/// A tile under way, to shared memory or back.
struct Tile {
  unsigned char* shared;
  TileMap map;
  std::int64_t index, row, column;
  const void* from_code;  // as Record::code

  std::int64_t row_bytes() const { return std::int64_t(map.tile_columns) * map.element_bytes; }
  std::int64_t bytes() const { return map.tile_rows * row_bytes(); }
  /// f(bytes from `shared` on, where they are in global memory, how many) for what each row has inside the matrix.
  template <class F>
  void inside(F&& f) const {
    if (index < 0 || index >= map.count) return;
    const std::int64_t first = std::max(column, std::int64_t(0)), stop = std::min(column + map.tile_columns, map.columns);
    if (first >= stop) return;
    for (std::int64_t r = std::max(row, std::int64_t(0)); r < std::min(row + map.tile_rows, map.rows); ++r) {
      unsigned char* const global = map.matrices + ((index * map.rows + r) * map.columns + first) * map.element_bytes;
      f((r - row) * row_bytes() + (first - column) * map.element_bytes, global, std::size_t(stop - first) * std::size_t(map.element_bytes));
    }
  }
  /// Of the running thread.
  void start_landing() const {
    inside([&](std::int64_t, const unsigned char* global, std::size_t count) { access(global, count, Use::read, from_code); });
    access(shared, std::size_t(bytes()), Use::write, from_code);
    set_contents(shared, std::size_t(bytes()), Content::landing);
  }
  void land() const {
    set_contents(shared, std::size_t(bytes()), Content::written);
    std::memset(shared, 0, std::size_t(bytes()));
    inside([&](std::int64_t at, const unsigned char* global, std::size_t count) { std::memcpy(shared + at, global, count); });
  }
  /// Of the running thread. What is stored may be read late, and be in memory later still.
  void start_leaving() const {
    inside([&](std::int64_t at, unsigned char* global, std::size_t count) {
      access(shared + at, count, Use::read, from_code);
      access(global, count, Use::write, from_code);
      set_contents(shared + at, count, Content::leaving);
      set_contents(global, count, Content::landing);
    });
  }
  void leave() const {
    inside([&](std::int64_t at, unsigned char* global, std::size_t count) { std::memcpy(global, shared + at, count); });
  }
  void has_left() const {
    inside([&](std::int64_t at, const unsigned char*, std::size_t count) { set_contents(shared + at, count, Content::written); });
  }
  /// Of the running thread: what it wrote earlier than now comes before its reading.
  void read_again() const {
    inside([&](std::int64_t at, const unsigned char*, std::size_t count) { access(shared + at, count, Use::read, from_code); });
  }
  void is_in_memory() const {
    inside([&](std::int64_t, const unsigned char* global, std::size_t count) { set_contents(global, count, Content::written); });
  }
};

/// A tile that a thread stores.
struct StoredTile {
  Tile tile;
  bool copied;  // the emulator has
};

struct Thread {
  ~Thread() {
    for (const Tile& tile : unfinished) tile.is_in_memory();
    if (abandoned) {
      std::construct_at(&fiber);  // forgets it: nothing of it may run again
      stacks.give(whole_stack);
    }
    if (!fiber) return;
    leave_for(stack);
    fiber = context::fiber();  // unwinds it, and comes back, without a word to AddressSanitizer
    arrive();
    leave_for(left);
    arrive();
  }

  context::fiber fiber, scheduler;
  StackBounds stack;
  context::stack_context whole_stack;
  bool abandoned = false;
  detail::Order order;
  State state = State::ready;
  const void* from_code = nullptr;  // that waits, as Record::code
  bool predicate = false;           // barrier_or: brought, then the answer
  const void* mine = nullptr;       // shuffle
  void* theirs = nullptr;
  std::size_t bytes = 0;
  int source_lane = 0;
  PhaseBarrier* phases = nullptr;  // phase
  int parity = 0;
  TeamBarrier* team_barrier = nullptr;
  std::deque<std::vector<Copy>> copies{1};  // groups in the order of their commits; the last is open
  std::deque<StoredTile> stored;            // groups in order, that have not been read
  std::vector<Tile> unfinished;             // tiles that it stored and that have not come to memory for certain
};

/// "waits at barrier() (kernels/x.cu:12)".
std::string doing(const Thread& thread) {
  const std::string line = thread.state == State::ended ? "" : source_line(thread.from_code);
  return kStateNames[int(thread.state)] + (line.empty() ? "" : " (" + line + ")");
}

std::string divergence(const Thread& a, const std::string& a_name, const Thread& b, const std::string& b_name) {
  const bool exit = a.state == State::ended || b.state == State::ended;
  return std::string(exit ? "early exit: " : "divergent barrier: ") + a_name + " " + doing(a) + ", " + b_name + " " + doing(b);
}

/// Phases of a PhaseBarrier.
struct Phases {
  std::vector<Tile> tiles;       // that have not landed
  detail::Turns arrived, ended;  // what those know who have arrived; what they knew when the last phase ended
};

/// One launch, as all its blocks see it.
struct Launch {
  const void* kernel;
  Team team;
  int team_blocks;
  const std::function<void()>& body;
  std::vector<unsigned char*> shared;  // of each block of the team that runs
  std::int64_t shared_bytes;
  std::mt19937_64 random{schedule.seed};
  std::map<const TeamBarrier*, std::int64_t> teams{};  // who has waited where

  /// 0 .. count-1 as the schedule says.
  std::vector<int> order(int count) {
    std::vector<int> turn(static_cast<std::size_t>(count));
    std::iota(turn.begin(), turn.end(), 0);
    if (schedule.order == Order::descending) std::reverse(turn.begin(), turn.end());
    if (schedule.order == Order::random) std::shuffle(turn.begin(), turn.end(), random);
    return turn;
  }
  [[noreturn]] void fail(const std::string& what) const {
    const std::string name = function_name(kernel);
    throw DeviceError("emulated: " + (name.empty() ? "" : name + ": ") + what);
  }
};

class Block;
thread_local Block* running = nullptr;

/// One block: its threads and what the running one does to wait.
class Block {
 public:
  Block(Launch& launch, const detail::Here& here) : launch_(launch), here_(here), threads_(std::size_t(here.threads)) {
    for (Thread& thread : threads_) {
      const context::stack_context stack = stacks.take();
      thread.stack = {static_cast<char*>(stack.sp) - stack.size, stack.size};
      thread.whole_stack = stack;
      thread.fiber = context::fiber(std::allocator_arg, context::preallocated(stack.sp, stack.size, stack), PooledStack{}, [this, &thread](context::fiber&& scheduler) {
        arrive();
        thread.scheduler = std::move(scheduler);
        try {
          launch_.body();
          detail::end_turn();
        } catch (const context::detail::forced_unwind&) {
          throw;  // Boost.Context ends an abandoned fiber with it
        } catch (...) {
          error_ = std::current_exception();
        }
        thread.state = State::ended;
        leave_for(left);
        return std::move(thread.scheduler);
      });
    }
  }

  /// Until all threads wait at the same barrier of the block (true: it opens) or of the team, or have ended (false).
  bool run() {
    running = this;
    detail::here = here_;
    const int warps = (int(threads_.size()) + kWarp - 1) / kWarp;
    do {
      for (int warp : launch_.order(warps)) run_warp(warp);
    } while (wake());
    return meet();
  }
  /// meets: who has waited for each other.
  void release(Team meets) {
    const detail::Turn next = detail::next_turn();
    for (Thread& thread : threads_) {
      thread.state = State::ready;
      thread.order = {.team = meets == Team::block ? thread.order.team : next, .block = next, .warp = next};
    }
  }
  /// Ends the running thread; its launch fails.
  [[noreturn]] void abandon(const std::string& what) {
    Thread& thread = current();
    try {
      launch_.fail(what);
    } catch (...) {
      error_ = std::current_exception();
    }
    thread.state = State::ended;
    thread.abandoned = true;
    leave_for(left);
    thread.scheduler = std::move(thread.scheduler).resume();
    std::terminate();
  }

  /// Whether the wait that the running thread asks for can end.
  void check(Team team, int team_blocks, const TeamBarrier* barrier) const {
    const auto refuse = [&](const std::string& what) { fail(name(threads_[std::size_t(detail::here.thread)]) + " waits " + what); };
    const auto team_of = [](Team kind, int blocks) { return std::string("Team::") + kTeamNames[int(kind)] + " of " + std::to_string(blocks); };
    if (team == Team::block && team_blocks == 1) return;
    if (team != launch_.team || team_blocks != launch_.team_blocks)
      refuse("for a " + team_of(team, team_blocks) + " in a launch with " + team_of(launch_.team, launch_.team_blocks));
    if (team == Team::cluster) return;
    if (!barrier) refuse("at no TeamBarrier");
    if (barrier->arrived % unsigned(team_blocks) || barrier->arrived >> 63)
      refuse("at a TeamBarrier with " + std::to_string(barrier->arrived) + " arrivals, which teams of " + std::to_string(team_blocks) + " cannot have left");
  }

  /// Where `p` lies in the shared memory of block `rank` of the cluster.
  const void* in_cluster(const void* p, int rank) const {
    const std::int64_t offset = static_cast<const unsigned char*>(p) - here_.shared;
    const std::string reads = name(threads_[std::size_t(detail::here.thread)]) + " reads the shared memory of block " + std::to_string(rank);
    if (launch_.team != Team::cluster) fail(reads + " in a launch without clusters");
    if (rank < 0 || rank >= launch_.team_blocks) fail(reads + " of a cluster of " + std::to_string(launch_.team_blocks));
    if (offset < 0 || offset >= launch_.shared_bytes) fail(reads + " at byte " + std::to_string(offset) + " of " + std::to_string(launch_.shared_bytes));
    return launch_.shared[std::size_t(rank)] + offset;
  }

  void start_phases(PhaseBarrier* barrier, int arrivals, const void* from_code) {
    if (arrivals < 1) fail(name(current()) + " makes a PhaseBarrier for " + std::to_string(arrivals) + " arrivals");
    access(barrier, sizeof *barrier, Use::write, from_code);
    *barrier = {.arrivals = std::uint16_t(arrivals), .missing = std::uint16_t(arrivals), .ended = 0};
    phases_.erase(barrier);
  }
  void arrive_at(PhaseBarrier* barrier, const void* from_code) {
    if (barrier->arrivals == 0xffff) fail(name(current()) + " arrives at a PhaseBarrier that nobody made");
    access(barrier, sizeof *barrier, Use::atomic_update, from_code);
    end_phase(barrier);
    Phases& phases = phases_[barrier];
    phases.arrived = detail::latest(phases.arrived, known(current()));
    detail::begin_turn();
    --barrier->missing;
  }
  void arrive_at(PhaseBarrier* barrier, const Tile& tile) {
    check_tile(tile, "copies", "to");
    tile.start_landing();
    arrive_at(barrier, tile.from_code);
    if (at_once()) return land(tile);  // nothing says when, before the phase's end
    phases_[barrier].tiles.push_back(tile);
  }
  void show_to_tiles() { std::memcpy(shown(), here_.shared, std::size_t(launch_.shared_bytes)); }
  void store(const Tile& tile) {
    check_tile(tile, "stores", "from");
    const std::int64_t offset = tile.shared - here_.shared;
    tile.inside([&](std::int64_t at, const unsigned char*, std::size_t bytes) {
      if (std::memcmp(tile.shared + at, shown() + offset + at, bytes))
        fail(name(current()) + " stores a tile from byte " + std::to_string(offset) + " that was written to after the last show_to_tiles()");
    });
    tile.start_leaving();
    const bool now = at_once();
    if (now) tile.leave();
    current().stored.push_back({tile, now});
    current().unfinished.push_back(tile);
  }
  static void read_stored(Thread& thread, int groups_under_way) {
    for (auto& stored = thread.stored; stored.size() > std::size_t(groups_under_way); stored.pop_front()) {
      if (!stored.front().copied) stored.front().tile.leave();
      stored.front().tile.has_left();
      stored.front().tile.read_again();
    }
  }
  static void finish_stored(Thread& thread) {
    read_stored(thread, 0);
    for (const Tile& tile : thread.unfinished) tile.is_in_memory();
    thread.unfinished.clear();
  }
  /// Whether the phase that a thread waits for has ended, who then knows what those did who arrived.
  bool ended(Thread& thread) {
    if (thread.phases->arrivals == 0xffff) fail(name(thread) + " waits at a PhaseBarrier that nobody made");
    end_phase(thread.phases);
    if (int(thread.phases->ended & 1) == thread.parity) return false;
    thread.order.threads = detail::latest(thread.order.threads, phases_[thread.phases].ended);
    return true;
  }

  Thread& current() { return threads_[std::size_t(detail::here.thread)]; }
  const std::vector<Thread>& threads() const { return threads_; }
  std::string name(const Thread& thread) const { return "thread " + std::to_string(&thread - threads_.data()); }
  std::int64_t index() const { return here_.block; }

 private:
  void run_warp(int warp) {
    const int first = warp * kWarp, lanes = std::min(kWarp, int(threads_.size()) - first);
    do {
      for (int lane : launch_.order(lanes)) {
        Thread& thread = threads_[std::size_t(first + lane)];
        if (thread.state != State::ready) continue;
        detail::here.thread = first + lane;
        detail::begin_turn(here_.block, first + lane, &thread.order, thread.stack.bottom, thread.stack.bytes);
        leave_for(thread.stack);
        thread.fiber = std::move(thread.fiber).resume();
        arrive();
        if (error_) std::rethrow_exception(error_);
      }
    } while (exchange(first, lanes));
  }

  /// Ends the running phase if nothing is missing.
  void end_phase(PhaseBarrier* barrier) {
    if (barrier->missing > 0) return;
    Phases& phases = phases_[barrier];
    for (const Tile& tile : phases.tiles) land(tile);
    phases.tiles.clear();
    phases.ended = phases.arrived;
    barrier->missing = barrier->arrivals;
    ++barrier->ended;
  }
  void land(const Tile& tile) {
    tile.land();
    std::memcpy(shown() + (tile.shared - here_.shared), tile.shared, std::size_t(tile.bytes()));
  }
  void check_tile(const Tile& tile, const char* moves, const char* where) {
    const std::int64_t offset = tile.shared - here_.shared;
    if (offset >= 0 && offset % std::int64_t(kSharedAlignment) == 0 && offset + tile.bytes() <= launch_.shared_bytes) return;
    fail(name(current()) + " " + moves + " a tile of " + std::to_string(tile.bytes()) + " bytes " + where + " byte " + std::to_string(offset) + " of " +
         std::to_string(launch_.shared_bytes));
  }
  /// What others know of the block's threads who learn what this one knows now.
  detail::Turns known(const Thread& thread) const {
    const std::ptrdiff_t me = &thread - threads_.data(), warp = me / kWarp * kWarp;
    std::vector<detail::Turn> turns(threads_.size(), thread.order.block);
    std::fill_n(turns.begin() + warp, std::min<std::ptrdiff_t>(kWarp, std::ssize(turns) - warp), thread.order.warp);
    turns[std::size_t(me)] = detail::next_turn();
    return detail::latest(std::make_shared<const std::vector<detail::Turn>>(std::move(turns)), thread.order.threads);
  }
  bool at_once() { return launch_.random() % 2 && schedule.order == Order::random; }
  unsigned char* shown() {
    if (shown_.empty()) shown_.assign(std::size_t(launch_.shared_bytes), 0xff);
    return shown_.data();
  }
  /// Lets threads go on whose phase has ended; false if none does.
  bool wake() {
    bool any = false;
    for (Thread& thread : threads_) {
      if (thread.state != State::phase || !ended(thread)) continue;
      thread.state = State::ready;
      any = true;
    }
    return any;
  }

  /// Lets the lanes of a warp that all wait at a shuffle go on; false if none does.
  bool exchange(int first, int lanes) {
    Thread* const warp = &threads_[std::size_t(first)];
    const Thread* const end = warp + lanes;
    const Thread* const waiting = std::find_if(static_cast<const Thread*>(warp), end, [](const Thread& t) { return t.state == State::shuffle; });
    if (waiting == end || std::any_of(static_cast<const Thread*>(warp), end, [](const Thread& t) { return t.state == State::phase; })) return false;
    if (lanes < kWarp) fail("a shuffle in a warp of " + std::to_string(lanes) + " lanes: all 32 must exist");
    for (const Thread* thread = warp; thread != end; ++thread) {
      if (thread->state != State::shuffle) fail(divergence(*waiting, name(*waiting), *thread, name(*thread)));
      if (thread->bytes != waiting->bytes) fail("divergent shuffle: " + name(*waiting) + " and " + name(*thread) + " of one warp exchange values of different sizes");
    }
    for (Thread* thread = warp; thread != end; ++thread) std::memcpy(thread->theirs, warp[thread->source_lane].mine, thread->bytes);
    detail::Turns known;
    for (const Thread* thread = warp; thread != end; ++thread) known = detail::latest(known, thread->order.threads);
    const detail::Turn next = detail::next_turn();
    for (Thread* thread = warp; thread != end; ++thread) {
      thread->state = State::ready;
      thread->order.warp = next;
      thread->order.threads = known;
    }
    return true;
  }

  /// Lets a block whose threads all wait at the same barrier of the block go on; false if they wait for the team or have ended.
  bool meet() {
    const State kind = threads_[0].state;
    bool any = false;
    for (const Thread& thread : threads_) {
      if (thread.state != kind) fail(divergence(threads_[0], name(threads_[0]), thread, name(thread)));
      any |= thread.predicate;
    }
    if (kind == State::phase) fail(name(threads_[0]) + " waits for a phase that never ends");
    if (kind == State::ended)
      for (Thread& thread : threads_) finish_stored(thread);
    if (kind == State::ended || kind == State::team_barrier) return false;
    for (Thread& thread : threads_) thread.predicate = any;
    release(Team::block);
    return true;
  }

  [[noreturn]] void fail(const std::string& what) const { launch_.fail("block " + std::to_string(here_.block) + ": " + what); }

  Launch& launch_;
  const detail::Here here_;
  std::exception_ptr error_;
  std::map<const PhaseBarrier*, Phases> phases_;
  std::vector<unsigned char> shown_;  // shared memory as tiles that are stored see it; empty: as it began
  std::vector<Thread> threads_;       // destroyed first: a fiber that still waits is unwound then
};

/// from_code: as Record::code.
void wait(State kind, const void* from_code) {
  detail::end_turn();
  Thread& thread = running->current();
  thread.state = kind;
  thread.from_code = from_code;
  leave_for(left);
  thread.scheduler = std::move(thread.scheduler).resume();
  arrive();
}

/// The blocks of one team, all of them alive.
class RunningTeam {
 public:
  RunningTeam(Launch& launch, std::int64_t team, std::int64_t blocks, int threads) : launch_(launch), team_(team) {
    detail::begin_team();
    for (int i = 0; i < launch.team_blocks; ++i) {
      clear(i);
      blocks_.emplace_back(launch, detail::Here{.thread = 0,
                                                .threads = threads,
                                                .block = team * launch.team_blocks + i,
                                                .blocks = blocks,
                                                .team_blocks = launch.team_blocks,
                                                .shared = launch.shared[std::size_t(i)]});
    }
  }

  /// Until all threads have ended.
  void run() {
    do {
      bool interrupted;
      do {
        interrupted = false;
        for (int i : launch_.order(launch_.team_blocks)) interrupted |= run(blocks_[std::size_t(i)]);
      } while (interrupted);
    } while (meet());
  }

 private:
  /// Until all threads of a block wait for the team or have ended, or (true) until another block shall run first.
  bool run(Block& block) {
    while (block.run())
      if (launch_.team_blocks > 1 && schedule.order == Order::random && launch_.random() % 2) return true;
    if (block.threads()[0].state == State::ended) clear(block.index() % launch_.team_blocks);
    return false;
  }
  /// Nothing is in a block's shared memory: it has ended, or not yet begun.
  void clear(std::int64_t block) {
    unsigned char* const shared = launch_.shared[std::size_t(block)];
    std::memset(shared, 0xff, std::size_t(launch_.shared_bytes));
    set_contents(shared, std::size_t(launch_.shared_bytes), Content::none);
  }

  /// Lets a team whose threads all wait at its barrier go on; false if all have ended.
  bool meet() {
    const Thread& first = blocks_[0].threads()[0];
    for (const Block& block : blocks_) {
      for (const Thread& thread : block.threads()) {
        if (thread.state != first.state) fail(divergence(first, name(blocks_[0], first), thread, name(block, thread)));
        if (thread.state == State::team_barrier && thread.team_barrier != first.team_barrier)
          fail("divergent barrier: " + name(blocks_[0], first) + " and " + name(block, thread) + " wait at different TeamBarriers");
      }
    }
    if (first.state == State::ended) return false;
    if (first.team_barrier) {
      const std::int64_t owner = launch_.teams.emplace(first.team_barrier, team_).first->second;
      if (owner != team_) fail(name(blocks_[0], first) + " waits at the TeamBarrier of team " + std::to_string(owner));
      first.team_barrier->arrived += unsigned(launch_.team_blocks);
    }
    for (Block& block : blocks_) block.release(launch_.team);
    return true;
  }

  static std::string name(const Block& block, const Thread& thread) { return block.name(thread) + " of block " + std::to_string(block.index()); }
  [[noreturn]] void fail(const std::string& what) const { launch_.fail("team " + std::to_string(team_) + ": " + what); }

  Launch& launch_;
  std::int64_t team_;
  std::deque<Block> blocks_;
};

/// Shared memory of the i-th block of a team, of `bytes`. It stays from launch to launch.
unsigned char* shared_memory_of(int i, std::int64_t bytes) {
  static std::deque<detail::Region*> blocks;
  while (blocks.size() <= std::size_t(i)) blocks.push_back(&detail::allocate_region(kMostSharedBytes, true));
  blocks[std::size_t(i)]->bytes = std::size_t(bytes);
  return blocks[std::size_t(i)]->data;
}

void refuse(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw DeviceError("emulated: a launch with " + std::to_string(value) + " " + what + ", not " + std::to_string(least) + " to " + std::to_string(most));
}

/// The i-th team to run, a bijection of 0 .. teams-1. Random: multiples of a number without a common divisor, from a random start.
class TeamOrder {
 public:
  TeamOrder(std::int64_t teams, std::mt19937_64& random) : teams_(teams) {
    if (schedule.order != Order::random) return;
    start_ = std::int64_t(random() % std::uint64_t(teams));
    do stride_ = 1 + std::int64_t(random() % std::uint64_t(teams));
    while (std::gcd(stride_, teams) != 1);
  }
  std::int64_t operator()(std::int64_t i) const { return schedule.order == Order::descending ? teams_ - 1 - i : (start_ + i * stride_) % teams_; }

 private:
  std::int64_t teams_, start_ = 0, stride_ = 1;
};

}  // namespace

void set_schedule(Schedule next) { schedule = next; }

namespace detail {

constinit thread_local Here here;

void abandon(const std::string& what) { running->abandon(what); }

void wait_barrier() { wait(State::barrier, __builtin_return_address(0)); }

bool wait_barrier_or(bool predicate) {
  running->current().predicate = predicate;
  wait(State::barrier_or, __builtin_return_address(0));
  return running->current().predicate;
}

void wait_shuffle(const void* mine, void* theirs, std::size_t bytes, int source_lane) {
  Thread& thread = running->current();
  thread.mine = mine;
  thread.theirs = theirs;
  thread.bytes = bytes;
  thread.source_lane = source_lane;
  wait(State::shuffle, __builtin_return_address(0));
}

void copy(void* to, const void* from, std::size_t bytes) {
  access(from, bytes, Use::read, __builtin_return_address(0));
  access(to, bytes, Use::write, __builtin_return_address(0));
  std::memcpy(to, from, bytes);
}

void load(void* value, const void* p, std::size_t bytes, Use use) {
  access(p, bytes, use, __builtin_return_address(0));
  std::memcpy(value, p, bytes);
}

void store(void* p, const void* value, std::size_t bytes, Use use) {
  access(p, bytes, use, __builtin_return_address(0));
  std::memcpy(p, value, bytes);
}

void copy_async(void* shared, const void* global, std::size_t bytes) {
  const Copy copy{shared, global, bytes, __builtin_return_address(0)};
  copy.start();
  running->current().copies.back().push_back(copy);
}

void commit_copies() { running->current().copies.emplace_back(); }

void wait_copies(int groups_under_way) {
  auto& copies = running->current().copies;
  for (; copies.size() > std::size_t(groups_under_way) + 1; copies.pop_front()) {
    for (const Copy& copy : copies.front()) copy.land();
  }
}

void start_phases(PhaseBarrier* barrier, int arrivals) { running->start_phases(barrier, arrivals, __builtin_return_address(0)); }

TileMap tile_map(const void* matrices, std::int64_t count, std::int64_t rows, std::int64_t columns, int tile_rows, int tile_columns, int element_bytes) {
  const auto fault = [&](const char* what) { throw DeviceError("emulated: tiles of " + std::to_string(tile_rows) + " x " + std::to_string(tile_columns) + ": " + what); };
  if (tile_rows < 1 || tile_rows > 256 || tile_columns < 1 || tile_columns > 256) fault("at most 256 x 256");
  if (tile_columns * element_bytes % 16 || columns * element_bytes % 16 || reinterpret_cast<std::uintptr_t>(matrices) % 16) fault("rows must be whole 16-byte words");
  for (const std::int64_t extent : {count, rows, columns})
    if (extent < 1 || extent > 0xffffffff) fault("1 to 2^32 - 1 matrices, rows and columns");
  if (rows > ((std::int64_t(1) << 40) - 1) / (columns * element_bytes)) fault("a matrix has less than 2^40 bytes");
  return {const_cast<unsigned char*>(static_cast<const unsigned char*>(matrices)), count, rows, columns, tile_rows, tile_columns, element_bytes};
}

void arrive(PhaseBarrier* barrier) { running->arrive_at(barrier, __builtin_return_address(0)); }

void arrive_with_tile(PhaseBarrier* barrier, void* shared, const TileMap& from, std::int64_t index, std::int64_t row, std::int64_t column) {
  running->arrive_at(barrier, Tile{static_cast<unsigned char*>(shared), from, index, row, column, __builtin_return_address(0)});
}

void show_to_tiles() { running->show_to_tiles(); }

void store_tile(const TileMap& to, std::int64_t index, std::int64_t row, std::int64_t column, const void* shared) {
  running->store(Tile{const_cast<unsigned char*>(static_cast<const unsigned char*>(shared)), to, index, row, column, __builtin_return_address(0)});
}

void wait_for_stored_tiles(int groups_under_way) { Block::read_stored(running->current(), groups_under_way); }

void finish_stored_tiles() { Block::finish_stored(running->current()); }

void wait_phase(PhaseBarrier* barrier, int parity) {
  Thread& thread = running->current();
  thread.phases = barrier;
  thread.parity = parity;
  access(barrier, sizeof *barrier, Use::atomic_read, __builtin_return_address(0));
  if (!running->ended(thread)) wait(State::phase, __builtin_return_address(0));
}

void wait_team(Team team, int team_blocks, TeamBarrier* barrier) {
  running->check(team, team_blocks, barrier);
  if (team == Team::block) return wait(State::barrier, __builtin_return_address(0));
  if (team == Team::grid) access(barrier, sizeof *barrier, Use::atomic_update, __builtin_return_address(0));
  running->current().team_barrier = team == Team::grid ? barrier : nullptr;
  wait(State::team_barrier, __builtin_return_address(0));
}

void wait_for_word() { abandon("block " + std::to_string(here.block) + " waits for a word that no block before it has shown"); }

const void* in_cluster(const void* p, int rank) { return running->in_cluster(p, rank); }

std::int64_t resident_blocks(int threads, std::int64_t shared_bytes) {
  refuse("threads a block", threads, 1, kMostThreads);
  refuse("bytes of shared memory", shared_bytes, 0, kMostSharedBytes);
  return std::min(kMostTogether, kMostFibers / threads);
}

void launch(const void* kernel, Team team, int team_blocks, std::int64_t blocks, int threads, std::int64_t shared_bytes, const std::function<void()>& thread_body) {
  refuse("blocks", blocks, 1, kMostBlocks);
  const std::int64_t together = resident_blocks(threads, shared_bytes);
  refuse("blocks a team", team_blocks, 1, team == Team::block ? 1 : team == Team::cluster ? kMostClusterBlocks : kMostBlocks);
  if (blocks % team_blocks) throw DeviceError("emulated: a launch with " + std::to_string(blocks) + " blocks in teams of " + std::to_string(team_blocks));
  if (team == Team::grid) refuse("blocks that run together", blocks, 1, together);
  if (running) throw DeviceError("emulated: a kernel cannot launch a kernel");

  static std::mutex one;
  const std::lock_guard lock(one);
  begin_launch(team_blocks);
  Launch launch{.kernel = kernel, .team = team, .team_blocks = team_blocks, .body = thread_body, .shared = {}, .shared_bytes = shared_bytes};
  for (int i = 0; i < team_blocks; ++i) launch.shared.push_back(shared_memory_of(i, shared_bytes));
  const std::int64_t teams = blocks / team_blocks;
  const TeamOrder team_at(teams, launch.random);
  struct Leave {
    ~Leave() {
      running = nullptr;
      here = {};
    }
  } leave;
  for (std::int64_t i = 0; i < teams; ++i) RunningTeam(launch, team_at(i), blocks, threads).run();
}

}  // namespace detail
}  // namespace prnn::emulated

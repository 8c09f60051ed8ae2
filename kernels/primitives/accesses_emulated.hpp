// accesses_emulated.hpp: every access of a kernel to the emulated GPU's memory, checked when it happens: it is inside a buffer, what is read has been written, and
// barriers, not the schedule, put it in order with what other threads did there.
//
// Kernels are compiled with calls before each load and store (-fsanitize=thread, without its library); accesses_emulated.cpp is what they call. The copies and
// atomics of device_emulated.hpp call access() themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/primitives/memory_emulated.hpp"

namespace prnn::emulated::detail {

/// A stretch of a thread's work between two waits. They are numbered as they run.
using Turn = std::uint64_t;
using Turns = std::shared_ptr<const std::vector<Turn>>;  // of each thread of a block; null: zeros

/// What has been done before whatever a thread does now: the turns before these, of threads of its team, its block and its warp, and of single threads of the
/// block, of which it knows by a phase.
struct Order {
  Turn team = 0, block = 0, warp = 0;
  Turns threads = nullptr;
};
/// The later of each.
Turns latest(const Turns&, const Turns&);

/// How memory is accessed. read_only: through the cache that does not see what the kernel writes. from_all: past the caches that do not see what other blocks
/// write. atomic_: among themselves such accesses need no order.
enum class Use { read, read_only, read_from_all, write, atomic_read, atomic_write, atomic_update };

/// Launches do not overlap.
void begin_launch(int team_blocks);
/// What was done in shared memory before is forgotten: another block has it now.
void begin_team();
/// From now on the thread works whose stack this is.
void begin_turn(std::int64_t block, int thread, const Order* order, const void* stack, std::size_t stack_bytes);
/// The running thread's work from now on is another turn.
void begin_turn();
/// By the running thread, before it waits and when it ends.
void end_turn();
/// The number of the next turn.
Turn next_turn();

/// Addresses whose accesses are none of ours: a running kernel's stack; outside of kernels, all.
struct Ignored {
  std::uintptr_t begin = 0;
  std::size_t bytes = ~std::size_t(0);
};
extern constinit thread_local Ignored ignored;
void check(std::uintptr_t address, std::size_t bytes, Use use, const void* from);
/// The running thread accesses `bytes` at p; nothing if there is none, or p is no device memory. from: see Record::code.
inline void access(const void* p, std::size_t bytes, Use use, const void* from) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  if (address - ignored.begin >= ignored.bytes && in_arena(address)) check(address, bytes, use, from);
}
/// Reports an access and abandons the running thread for good, of which nothing is unwound: compilers take it that the calls before accesses do not throw.
[[noreturn]] void abandon(const std::string& what);

}  // namespace prnn::emulated::detail

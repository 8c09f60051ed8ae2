// accesses_emulated.cpp: see accesses_emulated.hpp. An access is compared with the last ones of the same granule as in FastTrack (Flanagan, Freund 2009), with one
// turn in the place of a vector clock wherever a barrier makes it enough.
#include "kernels/primitives/accesses_emulated.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/api.hpp"
#include "kernels/primitives/source_lines.hpp"

extern "C" const char __executable_start;  // by the linker

namespace prnn::emulated::detail {
namespace {

/// Whether kernels are compiled with calls before their accesses; else nothing is known, and nothing checked.
#if defined(PRNN_CHECKED_ACCESSES)
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif

constexpr int kWarpThreads = 32;
constexpr Turn kMostTurns = Turn(1) << 36;
constexpr std::size_t kMostCode = std::size_t(1) << 25;

struct Who {
  int block, thread;
};

/// A write that another thread's write is in no order with: no harm, if both write the same.
struct SameWrite {
  std::uintptr_t address = 0;
  std::size_t bytes = 0;
  Record other{}, mine{};
  std::array<unsigned char, 64> before;
};

Turn now = 0;  // one launch runs at a time
Turn launch_first, team_first;
int team_blocks_;
std::vector<Who> turns;  // of the launch
const Order* order;
SameWrite same_write;

const Who& who(Turn turn) { return turns[turn - launch_first]; }
std::string name(const Who& who) { return "thread " + std::to_string(who.thread) + " of block " + std::to_string(who.block); }
std::string at(Record record) {
  const std::string line = record.code ? source_line(&__executable_start + record.code) : "";
  return line.empty() ? "" : " (" + line + ")";
}

std::string text_of(std::uintptr_t address, std::size_t bytes) {
  const Region* const region = region_of(address);
  return std::to_string(bytes) + " bytes of " + (region->shared ? "shared" : "global") + " memory from byte " + std::to_string(address - region->begin());
}

/// Whether what is recorded, of this launch, comes before what the running thread does.
bool before(Record record) {
  if (record.turn == now) return true;
  const Who &then = who(record.turn), &me = turns.back();
  if (then.block == me.block) {
    if (then.thread == me.thread || record.turn < order->block) return true;
    if (then.thread / kWarpThreads == me.thread / kWarpThreads && record.turn < order->warp) return true;
    return order->threads && record.turn < (*order->threads)[std::size_t(then.thread)];
  }
  return then.block / team_blocks_ == me.block / team_blocks_ && record.turn < order->team;
}

[[noreturn]] void report_race(std::uintptr_t address, std::size_t bytes, Record other, Record mine) {
  const auto does = [](Record record) { return name(who(record.turn)) + (record.writes ? " writes" : " reads") + at(record); };
  abandon("race: " + text_of(address, bytes) + ": " + does(mine) + " what " + does(other) + ", with nothing between them that puts one first");
}

/// Reports a write that waits for it, if it has changed what another thread wrote.
void settle() {
  if (same_write.bytes == 0) return;
  const SameWrite write = same_write;
  same_write.bytes = 0;
  if (std::memcmp(write.before.data(), reinterpret_cast<const void*>(write.address), write.bytes) == 0) return;
  report_race(write.address, write.bytes, write.other, write.mine);
}

/// Keeps an access that is no plain write, of many the two that are the furthest apart: a barrier that puts both before a write does so with all others. (A
/// phase may not, for which only some have arrived.)
void keep(Granule& granule, Record mine, Turn first_that_counts) {
  for (Record& kept : granule.others) {
    if (kept.turn >= first_that_counts && !before(kept)) continue;
    kept = mine;
    return;
  }
  const Who &first = who(granule.others[0].turn), &second = who(granule.others[1].turn), &me = turns.back();
  const bool one_block = first.block == second.block;
  if (one_block && (me.block != first.block || first.thread / kWarpThreads == second.thread / kWarpThreads)) granule.others[1] = mine;
}

/// Whether all of them have been written.
bool all_written(const Content* contents, std::size_t bytes) {
  constexpr std::uint64_t kWritten = 0x0101010101010101;
  std::uint64_t some = kWritten;
  if (bytes == 4 || bytes == 8) {
    bytes == 4 ? std::memcpy(&some, contents, 4) : std::memcpy(&some, contents, 8);
    return some == kWritten;
  }
  return std::all_of(contents, contents + bytes, [](Content content) { return content == Content::written; });
}

}  // namespace

constinit thread_local Ignored ignored;

void check(std::uintptr_t address, std::size_t bytes, Use use, const void* from) {
  if (bytes == 0) return;
  settle();
  const std::size_t code = std::size_t(static_cast<const char*>(from) - &__executable_start);
  const bool reads = use != Use::write && use != Use::atomic_write, writes = use == Use::write || use >= Use::atomic_write, atomic = use >= Use::atomic_read;
  Record mine{};
  mine.turn = now;
  mine.code = code < kMostCode ? code : 0;
  mine.writes = writes;
  mine.atomic = atomic;
  mine.read_only = use == Use::read_only;
  const Who& me = turns.back();
  const char* const does = reads ? writes ? " updates " : " reads " : " writes ";

  const Region* const region = region_of(address);
  if (!region || address + bytes > region->begin() + region->bytes) {
    const std::uintptr_t outside = region ? std::max(address, region->begin() + region->bytes) : address;
    abandon("out of bounds: " + name(me) + does + std::to_string(bytes) + " bytes" + at(mine) + ", " + misplaced(outside));
  }
  const std::size_t offset = address - region->begin();
  Content* const contents = region->contents + offset;
  for (std::size_t i = all_written(contents, bytes) ? bytes : 0; i < bytes; ++i) {
    if (reads && contents[i] == Content::none) abandon("uninitialised: " + name(me) + does + text_of(address, bytes) + at(mine) + ", where nothing has been written");
    if (contents[i] == Content::landing) abandon("too early: " + name(me) + does + text_of(address, bytes) + at(mine) + ", where a copy has yet to land");
    if (writes && contents[i] == Content::leaving)
      abandon("too early: " + name(me) + does + text_of(address, bytes) + at(mine) + ", which a tile that is stored has yet to be read from");
  }

  const Turn first = region->shared ? team_first : launch_first;
  const auto recent = [&](Record record) { return record.turn >= first; };
  const auto races = [&](Record record) { return recent(record) && (writes || record.writes) && !(atomic && record.atomic) && !before(record); };
  const bool global = !region->shared, may_be_stale = global && (use == Use::read || use == Use::read_only);
  for (std::size_t g = offset / kGranuleBytes; g <= (offset + bytes - 1) / kGranuleBytes; ++g) {
    Granule& granule = region->granules[g];
    if (const Record write = granule.write; races(write)) {
      if (use != Use::write || bytes > same_write.before.size()) report_race(address, bytes, write, mine);
      if (same_write.bytes == 0) {
        same_write = {.address = address, .bytes = bytes, .other = write, .mine = mine, .before = {}};
        std::memcpy(same_write.before.data(), reinterpret_cast<const void*>(address), bytes);
      }
    }
    for (const Record other : granule.others) {
      if (races(other)) report_race(address, bytes, other, mine);
      if (writes && global && recent(other) && other.read_only)
        abandon("stale: " + name(me) + does + text_of(address, bytes) + at(mine) + ", which " + name(who(other.turn)) + " reads" + at(other) + " as what no thread writes");
    }
    for (const Record other : {granule.write, granule.others[0], granule.others[1]}) {
      if (may_be_stale && recent(other) && other.writes && (use == Use::read_only || who(other.turn).block != me.block))
        abandon("stale: " + name(me) + does + text_of(address, bytes) + at(mine) + ", which " + name(who(other.turn)) + " writes" + at(other) +
                ", from a cache that need not see it");
    }
    if (use == Use::write) granule = {.write = mine, .others = {}};
    else keep(granule, mine, first);
  }
  if (writes) std::memset(contents, int(Content::written), bytes);
}

Turns latest(const Turns& a, const Turns& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  static Turns last_a, last_b, last;  // threads that wait together ask for the same
  if (a == last_a && b == last_b) return last;
  auto both = std::make_shared<std::vector<Turn>>(*a);
  for (std::size_t i = 0; i < both->size(); ++i) (*both)[i] = std::max((*both)[i], (*b)[i]);
  last_a = a;
  last_b = b;
  last = *both == *b ? b : both;
  return last;
}

void begin_launch(int team_blocks) {
  launch_first = now + 1;
  team_blocks_ = team_blocks;
  turns.clear();
  same_write.bytes = 0;
}
void begin_team() { team_first = now + 1; }
void begin_turn(std::int64_t block, int thread, const Order* its_order, const void* stack, std::size_t stack_bytes) {
  if (++now == kMostTurns) throw DeviceError("emulated: one process runs less than 2^36 turns of threads");
  turns.push_back({int(block), thread});
  order = its_order;
  if (kChecked) ignored = {reinterpret_cast<std::uintptr_t>(stack), stack_bytes};
}
void begin_turn() {
  ++now;
  turns.push_back(Who(turns.back()));
}
void end_turn() {
  settle();
  ignored = {};
}
Turn next_turn() { return now + 1; }

}  // namespace prnn::emulated::detail

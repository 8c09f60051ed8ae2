// memory_emulated.hpp: the memory of the emulated GPU: regions far apart, so that an access that leaves one meets none, and what is known of every byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace prnn::emulated::detail {

/// What a byte holds: nothing that anything has written, a value, what an asynchronous copy has yet to bring, a value that one has yet to read.
enum class Content : std::uint8_t { none, written, landing, leaving };

/// An access: in which turn of the launches (accesses_emulated.hpp), by the code that returns to which place in the program; turn 0: none.
struct Record {
  std::uint64_t turn : 36, code : 25, writes : 1, atomic : 1, read_only : 1;
};
/// The last accesses of the smallest thing that threads share, a number of 16 bits: a plain write, and what came after it.
struct Granule {
  Record write, others[2];
};
inline constexpr std::size_t kGranuleBytes = 2;

struct Region {
  unsigned char* data;
  std::size_t bytes;
  bool shared;         // shared memory of a block, else global memory
  Content* contents;   // [bytes]
  Granule* granules;   // [bytes / kGranuleBytes], rounded up
  std::size_t mapped;  // bytes that bytes may grow to

  std::uintptr_t begin() const { return reinterpret_cast<std::uintptr_t>(data); }
};

/// `bytes` of memory, 256-byte aligned, every byte 0xff and Content::none; at least as much on both sides belongs to nobody. Throws OutOfMemory.
Region& allocate_region(std::size_t bytes, bool shared);
/// data: of a region; null: nothing.
void release_region(void* data) noexcept;
/// Bytes of memory that a byte of a region takes.
inline constexpr std::int64_t kBytesAByte = 2 + sizeof(Granule) / kGranuleBytes;

inline constexpr std::size_t kArenaBytes = std::size_t(1) << 38, kSlotBytes = 64 * 1024;
/// All regions lie in it; nothing else does.
struct Arena {
  std::uintptr_t begin = ~std::uintptr_t(0);
  Region** owners = nullptr;  // of each slot
};
extern constinit Arena arena;

inline bool in_arena(std::uintptr_t address) { return address - arena.begin < kArenaBytes; }
/// The region of an address of the arena or near it; null: of none.
inline Region* region_of(std::uintptr_t address) { return arena.owners[(address - arena.begin) / kSlotBytes]; }
/// "64 bytes beyond the 128 of global memory": where an address of the arena that is in no region lies.
std::string misplaced(std::uintptr_t address);

/// What the host or a copy does to bytes of a region, all of one; elsewhere nothing.
void set_contents(const void* p, std::size_t bytes, Content);
/// Contents of `bytes` from `from` on are now those from `to` on.
void copy_contents(const void* to, const void* from, std::size_t bytes);

}  // namespace prnn::emulated::detail

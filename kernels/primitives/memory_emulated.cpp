// memory_emulated.cpp: an arena of addresses that are given out in slots; what is not given out can be neither read nor written, by whatever code.
#include "kernels/primitives/memory_emulated.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "kernels/api.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#endif

namespace prnn::emulated::detail {

constinit Arena arena;

namespace {

/// Zeros that take memory when they are written to.
class Zeros {
 public:
  explicit Zeros(std::size_t bytes) : bytes_(bytes), data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) throw OutOfMemory("the system refuses " + std::to_string(bytes) + " bytes of host memory for the emulated GPU");
  }
  Zeros(const Zeros&) = delete;
  Zeros& operator=(const Zeros&) = delete;
  ~Zeros() { munmap(data_, bytes_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  std::size_t bytes_;
  void* data_;
};

std::size_t whole_slots(std::size_t bytes) { return (bytes + kSlotBytes - 1) / kSlotBytes * kSlotBytes; }

struct Held {
  Region region;
  std::unique_ptr<Zeros> contents, granules;
};

/// All regions, by where the addresses before them start that are nobody's. Addresses go round: those of a region that is gone come again late.
class Regions {
 public:
  Regions() : owners_(kArenaBytes / kSlotBytes * sizeof(Region*)) {
    void* const reserved = mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw OutOfMemory("the system refuses the addresses of the emulated GPU's memory");
    arena = {reinterpret_cast<std::uintptr_t>(reserved), owners_.as<Region*>()};
  }

  Region& allocate(std::size_t bytes, bool shared) {
    const std::lock_guard lock(one_);
    const std::size_t mapped = whole_slots(std::max<std::size_t>(bytes, 1)), place = free_place(3 * mapped);
    Held held{{reinterpret_cast<unsigned char*>(arena.begin + place + mapped), bytes, shared, nullptr, nullptr, mapped},
              std::make_unique<Zeros>(mapped),
              std::make_unique<Zeros>(mapped / kGranuleBytes * sizeof(Granule))};
    held.region.contents = held.contents->as<Content>();
    held.region.granules = held.granules->as<Granule>();
    if (mprotect(held.region.data, mapped, PROT_READ | PROT_WRITE)) throw OutOfMemory("the system refuses " + std::to_string(bytes) + " bytes of host memory");
    std::memset(held.region.data, 0xff, bytes);
    ASAN_POISON_MEMORY_REGION(held.region.data + bytes, mapped - bytes);
    next_ = place + 3 * mapped;
    Region& region = held_.emplace(place, std::move(held)).first->second.region;
    std::fill_n(arena.owners + (place + mapped) / kSlotBytes, mapped / kSlotBytes, &region);
    return region;
  }
  void release(void* data) {
    const std::lock_guard lock(one_);
    const std::size_t place = reinterpret_cast<std::uintptr_t>(data) - arena.begin, mapped = arena.owners[place / kSlotBytes]->mapped;
    std::fill_n(arena.owners + place / kSlotBytes, mapped / kSlotBytes, nullptr);
    ASAN_UNPOISON_MEMORY_REGION(data, mapped);
    madvise(data, mapped, MADV_DONTNEED);
    mprotect(data, mapped, PROT_NONE);
    held_.erase(place - mapped);
  }
  /// The region that an address beside it belongs to; null: none does.
  const Region* beside(std::uintptr_t address) {
    const std::lock_guard lock(one_);
    const auto after = held_.upper_bound(address - arena.begin);
    return after == held_.begin() ? nullptr : &std::prev(after)->second.region;
  }

 private:
  /// So many bytes of the arena that touch no region's.
  std::size_t free_place(std::size_t bytes) {
    for (int rounds = 0; rounds < 2; next_ = 0, ++rounds) {
      for (; bytes <= kArenaBytes && next_ <= kArenaBytes - bytes;) {
        const auto after = held_.lower_bound(next_ + bytes);
        if (after == held_.begin()) return next_;
        const Region& last = std::prev(after)->second.region;
        const std::size_t end = last.begin() - arena.begin + 2 * last.mapped;
        if (end <= next_) return next_;
        next_ = end;
      }
    }
    throw OutOfMemory("the emulated GPU has no " + std::to_string(bytes) + " addresses in a row left");
  }

  std::mutex one_;
  Zeros owners_;
  std::map<std::size_t, Held> held_;
  std::size_t next_ = 0;
};

Regions& regions() {
  static Regions& all = *new Regions;  // outlives whatever is released when the program ends
  return all;
}

/// contents of p, all bytes of one region; null: of none.
Content* contents_of(const void* p, std::size_t bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const Region* const region = bytes > 0 && in_arena(address) ? region_of(address) : nullptr;
  return region ? region->contents + (address - region->begin()) : nullptr;
}

}  // namespace

Region& allocate_region(std::size_t bytes, bool shared) { return regions().allocate(bytes, shared); }
void release_region(void* data) noexcept {
  if (data) regions().release(data);
}

std::string misplaced(std::uintptr_t address) {
  const Region* const region = regions().beside(address);
  if (!region) return "where no memory is";
  const std::uintptr_t begin = region->begin(), end = begin + region->bytes;
  const std::string of = std::to_string(region->bytes) + " bytes of " + (region->shared ? "shared" : "global") + " memory";
  return std::to_string(address < begin ? begin - address : address - end) + " bytes " + (address < begin ? "before " : "beyond ") + of;
}

void set_contents(const void* p, std::size_t bytes, Content content) {
  if (Content* const contents = contents_of(p, bytes)) std::memset(contents, int(content), bytes);
}
void copy_contents(const void* to, const void* from, std::size_t bytes) {
  Content* const here = contents_of(to, bytes);
  const Content* const there = contents_of(from, bytes);
  if (here && there) std::memcpy(here, there, bytes);
}

}  // namespace prnn::emulated::detail

// hash.hpp: what names things that are known already: truths, compiled kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace prnn {

/// FNV-1a, 64 bits.
inline std::uint64_t hash_bytes(const void* data, std::size_t bytes, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

}  // namespace prnn

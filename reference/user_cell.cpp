// user_cell.cpp: see user_cell.hpp. The arithmetic that is lent is the reference's own.
#include "reference/user_cell.hpp"

#include <dlfcn.h>

#include <cstddef>
#include <new>
#include <stdexcept>

#include "kernels/runtime/joined_cell.hpp"
#include "reference/cell_object.hpp"
#include "reference/mp.hpp"

namespace prnn {
namespace {

template <class T>
const T& in(const void* x) {
  return *static_cast<const T*>(x);
}

template <class T, class Other>
NumberTable table() {
  static_assert(sizeof(T) <= kNumberBytes && alignof(T) <= alignof(std::max_align_t));
  return {.add = [](void* r, const void* x, const void* y) { new (r) T(in<T>(x) + in<T>(y)); },
          .subtract = [](void* r, const void* x, const void* y) { new (r) T(in<T>(x) - in<T>(y)); },
          .multiply = [](void* r, const void* x, const void* y) { new (r) T(in<T>(x) * in<T>(y)); },
          .divide = [](void* r, const void* x, const void* y) { new (r) T(in<T>(x) / in<T>(y)); },
          .copy = [](void* r, const void* x) { new (r) T(in<T>(x)); },
          .negate = [](void* r, const void* x) { new (r) T(-in<T>(x)); },
          .absolute = [](void* r, const void* x) { new (r) T(abs(in<T>(x))); },
          .exponential = [](void* r, const void* x) { new (r) T(exp(in<T>(x))); },
          .hyperbolic_tangent = [](void* r, const void* x) { new (r) T(tanh(in<T>(x))); },
          .convert = [](void* r, const void* x) { new (r) T(in<Other>(x)); },
          .from_double = [](void* r, double x) { new (r) T(x); },
          .to_double = [](const void* x) { return static_cast<double>(in<T>(x)); }};
}

struct Loaded {
  const CellObject* object;
  std::string digest;
};
std::vector<Loaded>& objects() {
  static std::vector<Loaded> list;
  return list;
}

}  // namespace

const CellObject* loaded_object(std::string_view cell) {
  for (const Loaded& loaded : objects()) {
    if (loaded.object->facts.name == cell) return loaded.object;
  }
  return nullptr;
}

std::string loaded_digest(std::string_view cell) {
  for (const Loaded& loaded : objects()) {
    if (loaded.object->facts.name == cell) return loaded.digest;
  }
  return "";
}

std::string load_cell(const std::filesystem::path& path, const std::string& digest) {
  static const NumberTables numbers{table<Mp, MpCheck>(), table<MpCheck, Mp>()};
  void* const library = dlopen(std::filesystem::absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  const OpenCell open = library ? reinterpret_cast<OpenCell>(dlsym(library, kOpenCell)) : nullptr;
  if (!open) throw std::runtime_error(dlerror());
  const CellObject& object = *open(numbers);
  objects().push_back({&object, digest});
  join(object.facts, *object.solvers, *object.loops, object.chaotic_draw);
  return object.facts.name;
}

}  // namespace prnn

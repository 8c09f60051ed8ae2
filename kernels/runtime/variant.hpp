// variant.hpp: how a launcher names the kernel of a policy: one that was compiled with the program, or one that is compiled when it is first needed.
#pragma once

#ifndef __CUDACC_RTC__

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <typeinfo>

#include "kernels/api.hpp"

namespace prnn {

/// A kernel of these parameters. ahead: null where it was not compiled with the program.
template <class Function>
struct Variant {
  Function* ahead;
  KernelSource source;

  Variant(Function* ahead, const char* file, std::string expression) : ahead(ahead), source{file, std::move(expression), ahead != nullptr, "", ""} {}
};

/// The values of a parameter for which a kernel is compiled with the program.
template <int... values>
struct Ahead {
  static constexpr bool has(std::int64_t value) { return ((value == values) || ...); }
  /// make.template operator()<value>(), a pointer, if it is one of them; else null.
  template <class Make>
  static auto pick(std::int64_t value, Make&& make) {
    decltype((make.template operator()<values>(), ...)) found = nullptr;
    ((value == values ? void(found = make.template operator()<values>()) : void()), ...);
    return found;
  }
};

namespace detail {
template <class T>
std::string type_name() {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(typeid(T).name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? name.get() : typeid(T).name();
}
inline std::string value_text(bool value) { return value ? "true" : "false"; }
inline std::string value_text(const std::string& value) { return value; }  // a type
inline std::string value_text(int value) { return std::to_string(value); }
}  // namespace detail

/// "prnn::cuda::NAME<TYPES.., VALUES..>": an instance of a kernel as C++ spells it.
template <class... Types, class... Values>
std::string kernel_expression(const std::string& name, Values... values) {
  std::string arguments;
  ((arguments += (arguments.empty() ? "" : ", ") + detail::type_name<Types>()), ...);
  ((arguments += ", " + detail::value_text(values)), ...);
  return "prnn::cuda::" + name + "<" + arguments + ">";
}

}  // namespace prnn

#endif  // __CUDACC_RTC__

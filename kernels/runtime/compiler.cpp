// compiler.cpp: kernels compiled at run time by NVRTC (docs.nvidia.com/cuda/nvrtc), which is loaded when it is first needed: a program that was copied alone
// runs without it. Nothing here needs a GPU or a header of CUDA.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "kernels/api.hpp"
#include "kernels/runtime/kernel_cache.hpp"
#include "kernels/runtime/sources.hpp"

namespace prnn {
namespace {

using Clock = std::chrono::steady_clock;

/// The few functions of nvrtc.h that are used; 0 is success everywhere.
struct Nvrtc {
  using Program = void*;
  int (*version)(int*, int*);
  const char* (*error_string)(int);
  int (*create)(Program*, const char* source, const char* name, int headers, const char* const* contents, const char* const* names);
  int (*destroy)(Program*);
  int (*add_expression)(Program, const char*);
  int (*compile)(Program, int count, const char* const* options);
  int (*log_size)(Program, std::size_t*);
  int (*log)(Program, char*);
  int (*cubin_size)(Program, std::size_t*);
  int (*cubin)(Program, char*);
  int (*lowered_name)(Program, const char*, const char**);
  std::string why_not, version_text;

  Nvrtc() {
    void* library = nullptr;
    const char* const chosen = std::getenv("PRNN_NVRTC");
    if (chosen && *chosen) {
      library = dlopen(chosen, RTLD_NOW);
      if (!library) why_not = std::string("PRNN_NVRTC: ") + dlerror();
    } else {
      for (const char* folder : {"", "/usr/local/cuda/lib64/"}) {
        for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12"}) {
          if (!library) library = dlopen((std::string(folder) + name).c_str(), RTLD_NOW);
        }
      }
      if (!library) why_not = "NVRTC is not here: neither libnvrtc.so.13 nor libnvrtc.so.12 can be loaded, nor from /usr/local/cuda/lib64; PRNN_NVRTC may name the file";
    }
    if (!library) return;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (!function && why_not.empty()) why_not = std::string("NVRTC has no ") + name;
    };
    find(version, "nvrtcVersion");
    find(error_string, "nvrtcGetErrorString");
    find(create, "nvrtcCreateProgram");
    find(destroy, "nvrtcDestroyProgram");
    find(add_expression, "nvrtcAddNameExpression");
    find(compile, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(cubin_size, "nvrtcGetCUBINSize");
    find(cubin, "nvrtcGetCUBIN");
    find(lowered_name, "nvrtcGetLoweredName");
    if (!why_not.empty()) return;
    int major = 0, minor = 0;
    version(&major, &minor);
    version_text = std::to_string(major) + "." + std::to_string(minor);
  }
  void check(int result, const char* what) const {
    if (result != 0) throw DeviceError(std::string("NVRTC: ") + what + ": " + error_string(result));
  }
};

const Nvrtc& nvrtc() {
  static const Nvrtc library;
  return library;
}

/// As the kernels are compiled ahead of time, for one architecture, and saying what they need.
std::vector<std::string> options_for(int sm) {
  std::vector<std::string> options{"--gpu-architecture=sm_" + std::to_string(sm), "-std=c++20", "-default-device", "--ptxas-options=-v"};
#ifdef PRNN_PLAIN_ARITHMETIC
  options.insert(options.end(), {"-DPRNN_PLAIN_ARITHMETIC", "-fmad=false"});
#endif
  return options;
}

/// The number before `words` in a line of the assembler's report; 0: there is none.
int number_before(const std::string& log, const std::string& words) {
  const std::size_t end = log.find(words);
  if (end == log.npos) return 0;
  std::size_t first = end;
  while (first > 0 && std::isdigit(static_cast<unsigned char>(log[first - 1]))) --first;
  return std::atoi(log.c_str() + first);
}

/// A translation unit: what includes the kernel's file, and a user's cell behind it.
struct Unit {
  std::string text;
  std::map<std::string, std::string> headers;
};
Unit unit_of(const KernelSource& kernel) {
  Unit unit{"#include \"" + kernel.file + "\"\n", {}};
  if (!kernel.header.empty()) {
    unit.text += "#include \"" + kernel.header + "\"\n";
    unit.headers = included_by(kernel.header_content);
    unit.headers[kernel.header] = kernel.header_content;
  }
  unit.headers.merge(included_by(unit.text));
  return unit;
}

CompiledKernel compile(const KernelSource& kernel, const Unit& unit, const std::vector<std::string>& options) {
  const Nvrtc& library = nvrtc();
  std::vector<const char*> names, contents, flags;
  for (const auto& [name, content] : unit.headers) {
    names.push_back(name.c_str());
    contents.push_back(content.c_str());
  }
  for (const std::string& option : options) flags.push_back(option.c_str());

  const auto start = Clock::now();
  Nvrtc::Program program = nullptr;
  library.check(library.create(&program, unit.text.c_str(), "kernel", int(names.size()), contents.data(), names.data()), "create");
  const auto destroy = [&](Nvrtc::Program* p) { library.destroy(p); };
  const std::unique_ptr<Nvrtc::Program, decltype(destroy)> owned(&program, destroy);
  library.check(library.add_expression(program, kernel.expression.c_str()), "add a kernel's name");
  const int result = library.compile(program, int(flags.size()), flags.data());
  std::size_t size = 0;
  library.check(library.log_size(program, &size), "log");
  std::string log(size, '\0');
  library.check(library.log(program, log.data()), "log");
  log.resize(std::strlen(log.c_str()));

  CompiledKernel compiled;
  if (result != 0) {
    compiled.error = log.empty() ? library.error_string(result) : log;
  } else {
    const char* symbol = nullptr;
    library.check(library.lowered_name(program, kernel.expression.c_str(), &symbol), "find a kernel");
    library.check(library.cubin_size(program, &size), "cubin");
    compiled.symbol = symbol;
    compiled.cubin.resize(size);
    library.check(library.cubin(program, compiled.cubin.data()), "cubin");
    compiled.registers = number_before(log, " registers");
    compiled.stack_bytes = number_before(log, " bytes stack frame");
    compiled.spill_bytes = number_before(log, " bytes spill stores") + number_before(log, " bytes spill loads");
  }
  compiled.compile_s = std::chrono::duration<double>(Clock::now() - start).count();
  return compiled;
}

/// All that a cubin depends on.
std::string key_of(const KernelSource& kernel, const Unit& unit, const std::vector<std::string>& options) {
  std::string key = "nvrtc " + nvrtc().version_text + "\n" + kernel.expression + "\n";
  for (const std::string& option : options) key += option + "\n";
  key += unit.text;
  for (const auto& [name, content] : unit.headers) key += name + " " + std::to_string(content.size()) + "\n" + content;
  return key;
}

}  // namespace

std::string kernel_compiler_why_not() { return nvrtc().why_not; }

std::vector<CompiledKernel> compile_kernels(const std::vector<KernelSource>& kernels, int sm) {
  if (const std::string why = kernel_compiler_why_not(); !why.empty()) throw DeviceError(why);
  const std::vector<std::string> options = options_for(sm);
  std::vector<CompiledKernel> compiled(kernels.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i; (i = next++) < kernels.size();) {
      try {
        const Unit unit = unit_of(kernels[i]);
        const std::string key = key_of(kernels[i], unit, options);
        if (std::optional<CompiledKernel> found = find_compiled(key)) {
          compiled[i] = *std::move(found);
        } else {
          compiled[i] = compile(kernels[i], unit, options);
          if (compiled[i].error.empty()) store_compiled(key, compiled[i]);
        }
      } catch (const std::exception& error) {
        compiled[i].error = error.what();
      }
    }
  };
  std::vector<std::jthread> others;
  for (std::size_t i = 1; i < std::min<std::size_t>(kernels.size(), std::thread::hardware_concurrency()); ++i) others.emplace_back(work);
  work();
  others.clear();
  return compiled;
}

}  // namespace prnn

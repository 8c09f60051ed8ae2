// architecture.test.cpp: who may include whom, and that a kernel knows the machine through device.cuh alone (design section 4). Reads the sources.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace prnn {
namespace {

struct File {
  std::string path, text;  // path: from the root of the sources
};

/// A line of a file whose path matches `where` and not `except` must not match `forbidden`.
struct Rule {
  std::string name;
  std::regex where, except, forbidden;
};

#define INCLUDES "^\\s*#\\s*include\\s*[<\"]"
constexpr const char* kNowhere = "^$";
constexpr const char* kTests = "\\.test\\.cpp$|/testing\\.hpp$";
// The door to the machine, and what stands behind it; draws.hpp names the one addition that nvcc must not contract.
constexpr const char* kDoor = "/(device|graph|launch)\\.cuh$|/units\\.hpp$|/cuda_check\\.hpp$|/machine_cuda\\.cu$|/runtime/loaded\\.cu$|\\.test\\.cpp$";
constexpr const char* kSource = "^(kernels|reference|harness)/.*\\.(cpp|hpp|cu|cuh)$";

const std::vector<Rule>& rules() {
  static const std::vector<Rule> list{
      {"no CUDA header but behind the door", std::regex(kSource), std::regex(kDoor), std::regex(INCLUDES "(cuda|cooperative_groups|cu(rand|blas|dnn)|mma|nv/|thrust/|crt/)")},
      {"CUB in device_scan alone", std::regex(kSource), std::regex("/device_scan\\.cu$|\\.test\\.cpp$"), std::regex(INCLUDES "cub/|\\bcub::")},
      {"no word of the machine but behind the door", std::regex("^kernels/.*\\.(hpp|cu|cuh)$"), std::regex(std::string(kDoor) + "|/draws\\.hpp$"),
       std::regex(
           "<<<|>>>\\s*\\(|\\basm\\b|\\batomic[A-Z]|\\bcuda[A-Z]\\w*\\s*\\(|\\b(thread|block)Idx\\b|\\b(block|grid)Dim\\b|\\bwarpSize\\b|"
           "\\b__(shfl|sync|ballot|any|all|activemask|match|reduce|ld|st|threadfence|nanosleep|global__|device__|host__|shared__|constant__|launch_bounds|[fd][a-z]+_r[nzud])")},
      {"draws.hpp says no more than PRNN_ADD_RN", std::regex("/draws\\.hpp$"), std::regex(kNowhere),
       std::regex("^(?!#define PRNN_ADD_RN).*(__(shfl|sync|ld|host__|device__|global__|shared__|[fd][a-z]+_r[nzud])|\\batomic[A-Z]|\\basm\\b|<<<)")},
      {"no relocatable device code, no static library, no fast-math", std::regex("(^|/)(CMakeLists\\.txt|CMakePresets\\.json|prnn|run|[^/]*\\.(cmake|sh|yml))$"),
       std::regex(kNowhere),
       std::regex("fast-math|fast_math|-Ofast|unsafe-math|finite-math-only|associative-math|ftz=true|prec-(div|sqrt)=false|fmad=true|ffp-contract=(fast|on)|-rdc|-dc\\b|SEPARABLE_"
                  "COMPILATION|"
                  "add_library\\([^)]*\\bSTATIC\\b")},
      {"no pragma that changes arithmetic", std::regex(kSource), std::regex(kNowhere),
       std::regex("^\\s*#\\s*pragma\\s+(GCC\\s+optimize|STDC\\s+FP_CONTRACT\\s+ON|float_control)|__attribute__\\s*\\(\\(\\s*optimize")},
      {"a cell knows cells and api.hpp", std::regex("^kernels/cells/"), std::regex(kTests), std::regex(INCLUDES "(kernels/(?!cells/|(api|fault)\\.hpp\")|reference/|harness/)")},
      {"kernels know kernels", std::regex("^kernels/"), std::regex("\\.test\\.cpp$"), std::regex(INCLUDES "(reference|harness)/")},
      {"the reference knows the op and the cells, and no solver", std::regex("^reference/"), std::regex(kTests), std::regex(INCLUDES "kernels/(solvers|primitives)/")},
      {"harness/ sees kernels/api.hpp and the verdicts", std::regex("^harness/"), std::regex(kTests),
       std::regex(INCLUDES "(kernels/(?!(api|fault|runtime/embedded)\\.hpp\")|reference/(?!(reference|thresholds|user_cell)\\.hpp\"))")},
      {"a test of harness/ sees no cell and no solver", std::regex("^harness/.*(\\.test\\.cpp|/testing\\.hpp)$"), std::regex(kNowhere),
       std::regex(INCLUDES "kernels/(cells|solvers)/")},
      {"nothing but harness/ includes harness/", std::regex("^(kernels|reference)/"), std::regex("^kernels/solvers/device_outputs[.]"),  // which compares digests
       std::regex(INCLUDES "harness/")},
      {"Boost and Eigen are the reference's, fibers the emulator's, distributions the gate's", std::regex(kSource),
       std::regex("^reference/(.*\\.cpp|mp\\.hpp)$|/device_emulated\\.cpp$|^harness/comparison\\.cpp$|\\.test\\.cpp$"), std::regex(INCLUDES "(boost/|Eigen/|reference/mp\\.hpp)")},
      {"figures read records alone", std::regex("^plots/.*\\.py$"), std::regex("/test_\\w+\\.py$"),
       std::regex("\\b(subprocess|ctypes|cffi|os\\.(system|popen|exec))\\b|(open|Path|glob)\\([^)]*\\b(kernels|harness|reference|suites)/|\\b(import|from) (torch|cupy|jax)\\b")},
  };
  return list;
}

/// The text without its comments, line for line; what stands in a string stays.
std::string code_of(const File& file) {
  const bool is_cpp = std::regex_search(file.path, std::regex("\\.(cpp|hpp|cu|cuh)$"));
  std::string code;
  for (std::size_t i = 0; i < file.text.size();) {
    const char c = file.text[i];
    const bool line_comment = is_cpp ? file.text.compare(i, 2, "//") == 0 : c == '#';
    if (line_comment) {
      i = std::min(file.text.find('\n', i), file.text.size());
    } else if (is_cpp && file.text.compare(i, 2, "/*") == 0) {
      const std::size_t end = std::min(file.text.find("*/", i), file.text.size());
      code.append(std::size_t(std::count(file.text.begin() + std::ptrdiff_t(i), file.text.begin() + std::ptrdiff_t(end), '\n')), '\n');
      i = end + 2;
    } else if (c == '"') {
      std::size_t end = i + 1;
      while (end < file.text.size() && file.text[end] != '"' && file.text[end] != '\n') end += file.text[end] == '\\' ? 2 : 1;
      code += file.text.substr(i, end + 1 - i);
      i = end + 1;
    } else {
      code += c;
      ++i;
    }
  }
  return code;
}

/// "path:line: rule" for every line that breaks one.
std::vector<std::string> violations(const File& file) {
  std::vector<const Rule*> mine;
  for (const Rule& rule : rules()) {
    if (std::regex_search(file.path, rule.where) && !std::regex_search(file.path, rule.except)) mine.push_back(&rule);
  }
  std::vector<std::string> found;
  if (mine.empty()) return found;
  std::istringstream lines(code_of(file));
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(' ') == std::string::npos) continue;
    for (const Rule* rule : mine) {
      if (std::regex_search(line, rule->forbidden)) found.push_back(file.path + ":" + std::to_string(number) + ": " + rule->name);
    }
  }
  return found;
}

/// The sources: what a build or a figure is made from.
std::vector<File> tree() {
  const std::filesystem::path root = PRNN_SOURCE_DIR;
  std::vector<std::filesystem::path> paths{root / "CMakeLists.txt", root / "CMakePresets.json", root / "prnn"};
  for (const char* folder : {"kernels", "reference", "harness", "plots", "cmake", ".ci", ".github"}) {
    if (!std::filesystem::exists(root / folder)) continue;  // dot-folders are no part of a copied tree
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (entry.is_regular_file() && entry.path().extension() != ".json" && entry.path().extension() != ".png") paths.push_back(entry.path());
    }
  }
  std::vector<File> files;
  for (const auto& path : paths) {
    std::ifstream in(path, std::ios::binary);
    files.push_back({path.lexically_relative(root).generic_string(), {std::istreambuf_iterator<char>(in), {}}});
  }
  return files;
}

TEST(Architecture, TheSourcesKeepEveryRule) {
  const std::vector<File> files = tree();
  for (const File& file : files) {
    EXPECT_FALSE(file.text.empty()) << file.path;
    for (const std::string& violation : violations(file)) ADD_FAILURE() << violation;
  }
  for (const Rule& rule : rules()) {  // a rule for files that do not exist rules nothing
    const auto ruled = [&](const File& file) { return std::regex_search(file.path, rule.where) && !std::regex_search(file.path, rule.except); };
    EXPECT_TRUE(std::any_of(files.begin(), files.end(), ruled)) << rule.name;
  }
}

TEST(Architecture, TheExceptionsExistAndAreNeeded) {
  const auto breaks = [](std::string path) {
    std::ifstream in(std::filesystem::path(PRNN_SOURCE_DIR) / path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    return violations({"kernels/solvers/cuda/other.cu", text}).size();
  };
  for (const char* path : {"device.cuh", "graph.cuh", "launch.cuh", "cuda_check.hpp", "machine_cuda.cu", "units.hpp", "draws.hpp"})
    EXPECT_GT(breaks((path == std::string("units.hpp") ? "kernels/cells/" : "kernels/primitives/") + std::string(path)), 0u) << path;
  EXPECT_GT(breaks("kernels/primitives/device_scan.cu"), 0u);
  EXPECT_GT(breaks("kernels/runtime/loaded.cu"), 0u);
}

TEST(Architecture, CubIsSeenByNvccAlone) {
  std::ifstream in(std::filesystem::path(PRNN_SOURCE_DIR) / "kernels/primitives/device_scan.cu");
  std::string line;
  bool cuda = false;
  int seen = 0;
  while (std::getline(in, line)) {
    if (line.starts_with("#if")) cuda = line == "#if defined(__CUDACC__)";
    if (line.starts_with("#else") || line.starts_with("#endif")) cuda = false;
    const std::string code = code_of({"a.cu", line});
    if (code.find("cub/") == std::string::npos && code.find("cub::") == std::string::npos) continue;
    EXPECT_TRUE(cuda) << line;
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

/// A line that breaks a rule in one file and, where `harmless` is given, a like one or the like place that does not.
struct Example {
  std::string rule, path, breaks, harmless_path, harmless;
};

TEST(Architecture, EveryRuleCanBeBroken) {
  const std::string solver = "kernels/solvers/cuda/x.cu", scan = "kernels/primitives/scan.cuh", door = "kernels/primitives/device.cuh", cmake = "CMakeLists.txt";
  const std::vector<Example> examples{
      {"no CUDA header", solver, "#include <cuda_runtime.h>", door, "#include <cuda_runtime.h>"},
      {"no CUDA header", scan, "# include <cooperative_groups.h>", solver, "// #include <cooperative_groups.h>"},
      {"no CUDA header", "kernels/api.hpp", "#include <cuda_fp16.h>", solver, "#include \"kernels/primitives/device.cuh\""},
      {"no CUDA header", "harness/x.cpp", "#include <cuda.h>", "harness/x.cpp", "#include <cstdint>"},
      {"CUB in device_scan", "kernels/solvers/cuda/newton_unfused.cu", "#include <cub/cub.cuh>", "kernels/primitives/device_scan.cu", "#include <cub/cub.cuh>"},
      {"CUB in device_scan", "kernels/ops/recurrence.cu", "  cub::DeviceScan::Sum(a);", solver, "  club::sum(a);  // not cub::DeviceScan"},
      {"no word", solver, "  kernel<<<1, 32>>>(x);", door, "  kernel<<<1, 32>>>(x);"},
      {"no word", solver, "  asm volatile(\"nop;\");", solver, "  const int plasma = 1;"},
      {"no word", scan, "  x = __shfl_up_sync(mask, x, 1);", scan, "  x = shuffle_up(x, 1);"},
      {"no word", scan, "  __syncthreads();", scan, "  barrier();  /* __syncthreads() */"},
      {"no word", solver, "  atomicAdd(p, 1);", solver, "  atomic_max(p, 1);"},
      {"no word", solver, "  i = threadIdx.x;", solver, "  i = thread_index();"},
      {"no word", "kernels/primitives/channel.cuh", "__device__ int f();", scan, "PRNN_DEVICE int f();"},
      {"no word", "kernels/solvers/cuda/sequential.cuh", "  y = __ldg(p);", solver, "  y = load(p);"},
      {"no word", "kernels/cells/cell.hpp", "  y = __fmul_rn(a, b);", solver, "  y = a * b;"},
      {"no word", "kernels/primitives/policy.hpp", "  cudaMalloc(&p, 1);", solver, "  return prnn::cuda::f();"},
      {"draws.hpp says", "kernels/primitives/draws.hpp", "__device__ float f();", "kernels/primitives/draws.hpp", "#define PRNN_ADD_RN(x, y) __dadd_rn(x, y)"},
      {"no word", "kernels/cells/scalar.hpp", "  asm(\"ex2\");", "kernels/cells/units.hpp", "  asm(\"ex2\");"},
      {"no relocatable", cmake, "  add_compile_options(--use_fast_math)", cmake, "  add_compile_options(-O2)  # no -ffast-math"},
      {"no relocatable", cmake, "  add_compile_options(-Ofast)", cmake, "  add_compile_options(-ffp-contract=off)"},
      {"no relocatable", "CMakePresets.json", "\"CMAKE_CUDA_FLAGS\": \"--prec-div=false\"", "kernels/x.cpp", "const char* fast_math;"},
      {"no relocatable", cmake, "set(CUDA_SEPARABLE_COMPILATION ON)", cmake, "add_library(prnn_host OBJECT a.cpp)"},
      {"no relocatable", cmake, "add_library(prnn_host STATIC a.cpp)", cmake, "set(CMAKE_CUDA_RUNTIME_LIBRARY Static)"},
      {"no pragma", "reference/x.cpp", "#pragma GCC optimize(\"fast-math\")", solver, "#pragma unroll"},
      {"a cell knows", "kernels/cells/x.hpp", "#include \"kernels/primitives/draws.hpp\"", "kernels/cells/x.hpp", "#include \"kernels/cells/cell.hpp\""},
      {"kernels know", "kernels/solvers/cpu/x.cpp", "#include \"reference/thresholds.hpp\"", "kernels/ops/x.test.cpp", "#include \"reference/thresholds.hpp\""},
      {"kernels know", solver, "#include \"reference/mp.hpp\"", solver, "#include \"kernels/api.hpp\""},
      {"the reference knows", "reference/x.cpp", "#include \"kernels/solvers/cpu/channels.hpp\"", "reference/x.cpp", "#include \"kernels/ops/recurrence.hpp\""},
      {"harness/ sees", "harness/x.cpp", "#include \"kernels/cells/all.hpp\"", "harness/x.cpp", "#include \"kernels/api.hpp\""},
      {"harness/ sees", "harness/metrics/x.hpp", "#include \"reference/running_bound.hpp\"", "harness/x.cpp", "#include \"reference/reference.hpp\""},
      {"a test of harness/", "harness/x.test.cpp", "#include \"kernels/cells/all.hpp\"", "harness/testing.hpp", "#include \"kernels/primitives/machine_host.hpp\""},
      {"nothing but harness/", "kernels/x.test.cpp", "#include \"harness/suite.hpp\"", "harness/x.test.cpp", "#include \"harness/suite.hpp\""},
      {"nothing but harness/", "reference/x.hpp", "#include <harness/record.hpp>", "reference/x.hpp", "#include \"reference/reference.hpp\""},
      {"Boost and Eigen", solver, "#include <boost/multiprecision/mpfr.hpp>", "reference/mp.hpp", "#include <boost/multiprecision/mpfr.hpp>"},
      {"Boost and Eigen", "reference/reference.hpp", "#include <Eigen/Dense>", "reference/x.cpp", "#include <Eigen/Dense>"},
      {"Boost and Eigen", "harness/x.cpp", "#include \"reference/mp.hpp\"", "kernels/cells/x.test.cpp", "#include \"reference/mp.hpp\""},
      {"figures read", "plots/x.py", "import subprocess", "plots/test_plots.py", "import subprocess"},
      {"figures read", "plots/x.py", "open('kernels/api.hpp')", "plots/x.py", "open('results/a.jsonl')  # not kernels/api.hpp"},
  };
  for (const Example& example : examples) {
    const std::vector<std::string> found = violations({example.path, "int x;\n" + example.breaks + "\n"});
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), [&](const std::string& v) { return v.find(example.path + ":2: " + example.rule) == 0; }))
        << example.rule << ": " << example.breaks;
    EXPECT_TRUE(violations({example.harmless_path, example.harmless + "\n"}).empty()) << example.rule << ": " << example.harmless;
  }
  for (const Rule& rule : rules())
    EXPECT_TRUE(std::any_of(examples.begin(), examples.end(), [&](const Example& example) { return rule.name.starts_with(example.rule); })) << rule.name;
}

TEST(Architecture, CommentsAreNotCodeAndStringsAre) {
  EXPECT_EQ(code_of({"a.cu", "x; // y\n/* z\n */ w;\n"}), "x; \n\n w;\n");
  EXPECT_EQ(code_of({"a.cu", "f(\"//\\\"\"); // y\n"}), "f(\"//\\\"\"); \n");
  EXPECT_EQ(code_of({"a.py", "x = '1'  # y\n"}), "x = '1'  \n");
}

}  // namespace
}  // namespace prnn

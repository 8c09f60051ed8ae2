// compiler.test.cpp: what is compiled at run time: the sources that the program carries, NVRTC (tests Nvrtc.*, wherever it is; no GPU, no nvcc), and the cache.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "kernels/cells/all.hpp"
#include "kernels/cells/approximated.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/runtime/kernel_cache.hpp"
#include "kernels/runtime/sources.hpp"
#include "kernels/runtime/variant.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

constexpr const char *kNewton = "kernels/solvers/cuda/newton_fused.cu", *kGru = "prnn::cuda::newton_fused_kernel<prnn::GruDiag, float, prnn::RecurrenceTensors<float>, 3>";
constexpr int kSm = 90;

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void put(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

/// A cache of the test's own.
class Cache {
 public:
  Cache() : folder_(fs::temp_directory_path() / ("prnn-kernels-" + std::to_string(getpid()) + "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    keep_compiled_kernels((folder_ / "deep").string());
  }
  ~Cache() {
    keep_compiled_kernels("");
    fs::remove_all(folder_);
  }
  fs::path folder() const { return folder_ / "deep"; }
  std::vector<fs::path> files() const {
    std::vector<fs::path> all;
    if (!fs::exists(folder())) return all;
    for (const auto& entry : fs::directory_iterator(folder())) all.push_back(entry.path());
    return all;
  }

 private:
  fs::path folder_;
};

TEST(CarriedSources, AreThoseOfTheTreeWithAllThatTheyInclude) {
  for (const char* path : {kNewton, "kernels/cells/gru_diag.hpp", "kernels/primitives/device.cuh"}) EXPECT_EQ(source_text(path), content(fs::path(PRNN_SOURCE_DIR) / path)) << path;
  EXPECT_TRUE(source_text("kernels/api.test.cpp").empty());
  const std::string unit = "#include <cmath>\n\n#include \"kernels/cells/gru_diag.hpp\"\n//#include \"kernels/api.hpp\"\n#include \"my_cell.hpp\"\n#include";
  const auto files = included_by(unit);
  for (const char* path : {"kernels/cells/gru_diag.hpp", "kernels/cells/cell.hpp", "kernels/cells/scalar.hpp", "kernels/cells/units.hpp", "kernels/fault.hpp"}) {
    ASSERT_TRUE(files.contains(path)) << path;
    EXPECT_EQ(files.at(path), source_text(path));
  }
  EXPECT_FALSE(files.contains("my_cell.hpp") || files.contains("kernels/api.hpp"));
  for (const char* header : {"cmath", "cstdint", "type_traits"}) EXPECT_EQ(files.at(header), "#include \"kernels/runtime/std.hpp\"\n") << header;
  EXPECT_EQ(files.at("kernels/runtime/std.hpp"), source_text("kernels/runtime/std.hpp"));
  EXPECT_TRUE(included_by("int x;\n").empty());
}

TEST(AKernelThatIsNotCompiled, IsNoFaultWhereThereIsACompiler) {
  const KernelSource ahead{.file = kNewton, .expression = "k", .ahead = true}, later{.file = kNewton, .expression = kGru};
  for (const char* device : {"cuda", "emulated"}) EXPECT_EQ(uncompiled_fault({ahead, ahead}, device), "");
  EXPECT_NE(uncompiled_fault({ahead, later}, "emulated").find(kGru), std::string::npos);
  EXPECT_EQ(uncompiled_fault({ahead, later}, "cuda").empty(), kernel_compiler_why_not().empty());
}

TEST(AKernelsName, IsItsInstanceAsCppSpellsIt) {
  EXPECT_EQ((kernel_expression<GruDiag, float>("k", 3, false)), "prnn::cuda::k<prnn::GruDiag, float, 3, false>");
  EXPECT_EQ((kernel_expression<Approximated<LstmCifgDiag>, Bf16>("k", 1, true)), "prnn::cuda::k<prnn::Approximated<prnn::LstmCifgDiag>, prnn::Bf16, 1, true>");
  EXPECT_EQ((kernel_expression<AffineScan<2>>("k", kernel_expression<double>("inner", 8))), "prnn::cuda::k<prnn::AffineScan<2>, prnn::cuda::inner<double, 8>>");
  using Steps = Ahead<1, 4>;
  const auto make = []<int n>() -> void (*)() { return [] { std::exit(n); }; };
  EXPECT_TRUE(Steps::has(1) && Steps::has(4) && !Steps::has(2) && !Steps::has(0));
  EXPECT_TRUE(Steps::pick(1, make) != nullptr && Steps::pick(4, make) != nullptr && Steps::pick(1, make) != Steps::pick(4, make) && Steps::pick(2, make) == nullptr);
}

CompiledKernel some_kernel() {
  CompiledKernel kernel;
  kernel.symbol = "_Z1kv";
  kernel.cubin = std::string(
      "\x7f"
      "ELF\n\0\n",
      7);
  kernel.registers = 40;
  kernel.stack_bytes = 16;
  kernel.spill_bytes = 12;
  return kernel;
}
void expect_same(const CompiledKernel& a, const CompiledKernel& b) {
  EXPECT_EQ(a.symbol, b.symbol);
  EXPECT_TRUE(a.cubin == b.cubin);
  EXPECT_EQ(a.registers, b.registers);
  EXPECT_EQ(a.stack_bytes, b.stack_bytes);
  EXPECT_EQ(a.spill_bytes, b.spill_bytes);
  EXPECT_EQ(a.error, b.error);
}

TEST(TheKernelCache, FindsWhatWasKeptUnderItsKeyAlone) {
  const Cache cache;
  EXPECT_FALSE(find_compiled("key"));
  store_compiled("key", some_kernel());
  ASSERT_EQ(cache.files().size(), 1u) << "and nothing half written";
  EXPECT_EQ(cache.files()[0].extension(), ".cubin");
  const auto found = find_compiled("key");
  ASSERT_TRUE(found);
  expect_same(*found, some_kernel());
  EXPECT_TRUE(found->cached);
  EXPECT_FALSE(find_compiled("kez"));
  EXPECT_FALSE(find_compiled("yek")) << "the order counts";
  const fs::path file = cache.files()[0];
  store_compiled("kez", some_kernel());
  ASSERT_EQ(cache.files().size(), 2u);
  for (const fs::path& other : cache.files()) {
    if (other != file) fs::copy_file(file, other, fs::copy_options::overwrite_existing);
  }
  EXPECT_FALSE(find_compiled("kez")) << "a file of another key";
  EXPECT_TRUE(find_compiled("key"));
}

TEST(TheKernelCache, TakesNoDamagedFile) {
  const Cache cache;
  store_compiled("key", some_kernel());
  const fs::path file = cache.files().at(0);
  const std::string whole = content(file);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = char(damaged[i] ^ 1);
    put(file, damaged);
    EXPECT_FALSE(find_compiled("key")) << "byte " << i;
    put(file, whole.substr(0, i));
    EXPECT_FALSE(find_compiled("key")) << i << " bytes";
  }
  put(file, whole);
  EXPECT_TRUE(find_compiled("key"));
}

TEST(TheKernelCache, IsNoneWhereNothingIsKeptOrCanBe) {
  keep_compiled_kernels("");
  store_compiled("key", some_kernel());
  EXPECT_FALSE(find_compiled("key"));
  keep_compiled_kernels("/proc/nowhere");
  store_compiled("key", some_kernel());
  EXPECT_FALSE(find_compiled("key"));
  keep_compiled_kernels("");
}

/// NVRTC without anything of CUDA's on the path.
class Nvrtc : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = kernel_compiler_why_not(); !why.empty()) GTEST_SKIP() << why;
    if (const char* path = std::getenv("PATH")) path_ = path;
    setenv("PATH", "/nowhere", 1);
  }
  void TearDown() override {
    if (!path_.empty()) setenv("PATH", path_.c_str(), 1);
  }
  static CompiledKernel compile(const KernelSource& kernel, int sm = kSm) { return compile_kernels({kernel}, sm).front(); }

 private:
  std::string path_;
};

/// A cubin for a GPU: ELF of machine 190, EM_CUDA.
bool is_cubin(const std::string& bytes) {
  return bytes.size() > 64 &&
         bytes.substr(0, 4) ==
             "\x7f"
             "ELF" &&
         (unsigned char)bytes[18] == 190 && bytes[19] == 0;
}

/// A problem whose policy no solver is shipped with.
Problem tuned(const std::string& solver) {
  Problem p;
  p.cell = "lstm_cifg_diag";
  p.hidden = 256;
  p.policy = solver == "newton_fused" ? Policy{{"steps_a_thread", 3}, {"threads", 256}} : Policy{{"prefetch", 32}, {"tiles", 1}};
  return p;
}

TEST_F(Nvrtc, CompilesAVariantOfEveryFamily) {
  struct Expected {
    KernelSource kernel;
    int most_threads;  // a multiprocessor is to hold: its 65536 registers are theirs
  };
  std::vector<Expected> all;
  for (const auto& [solver, threads] : std::map<std::string, int>{{"newton_fused", 512}, {"shooting", 2 * 256}, {"seq_fused", 256}}) {
    const Problem p = tuned(solver);
    const std::vector<KernelSource> kernels = find_solver(solver, "emulated", p)->kernels(p);
    ASSERT_EQ(kernels.size(), 1u);
    EXPECT_FALSE(kernels[0].ahead) << kernels[0].expression;
    all.push_back({kernels[0], threads});
  }
  const auto add = [&](const char* file, const std::string& expression, int threads) {
    all.push_back({{.file = std::string("kernels/") + file + ".cu", .expression = expression}, threads});
  };
  add("solvers/cuda/seq_stepwise", kernel_expression<ElmanDiag, double>("step_kernel"), 256);
  add("solvers/cuda/seq_stepwise_backward", kernel_expression<ElmanDiag, float>("adjoint_kernel"), 256);
  add("solvers/cuda/seq_fused_backward", kernel_expression<GruDiag, Bf16>("seq_fused_backward_kernel"), 256);
  for (const char* kernel : {"guess_kernel", "assemble_kernel", "update_kernel", "store_kernel"})
    add("solvers/cuda/newton_unfused", kernel_expression<GruDiag, float>(kernel), 256);
  add("solvers/cuda/reduction", kernel_expression<GruDiag, F16>("reduction_kernel", true), 512);
  add("solvers/cuda/scan_chained", kernel_expression<AffineScan<2>, float>("scan_chained_kernel"), 256);
  for (const char* kernel : {"maps_kernel", "states_kernel"}) add("solvers/cuda/scan_in_memory", kernel_expression<AffineScan<1>, float>(kernel), 256);
  add("solvers/cuda/seq_fused", kernel_expression<Approximated<GruDiag>, Bf16>("seq_fused_kernel", kernel_expression<Approximated<GruDiag>, Bf16>("InputStream", 2, true, 48)),
      256);
  for (const char* kernel : {"local_ratio_kernel", "judge_weights_kernel"}) add("ops/recurrence", kernel_expression<GruDiag>(kernel), 256);

  std::vector<KernelSource> kernels;
  for (const Expected& expected : all) kernels.push_back(expected.kernel);
  const std::vector<CompiledKernel> compiled = compile_kernels(kernels, kSm);
  ASSERT_EQ(compiled.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string& expression = all[i].kernel.expression;
    EXPECT_EQ(compiled[i].error, "") << expression;
    EXPECT_TRUE(is_cubin(compiled[i].cubin)) << expression;
    const std::string name = expression.substr(12, expression.find('<') - 12);  // behind prnn::cuda::
    EXPECT_NE(compiled[i].symbol.find(std::to_string(name.size()) + name), std::string::npos) << compiled[i].symbol << " is " << expression;
    EXPECT_NE(compiled[i].cubin.find(compiled[i].symbol), std::string::npos) << expression;
    EXPECT_GT(compiled[i].registers, 8) << expression;
    EXPECT_LE(compiled[i].registers, 65536 / all[i].most_threads) << expression;
    EXPECT_FALSE(compiled[i].cached);
    EXPECT_GT(compiled[i].compile_s, 0);
  }
}

TEST_F(Nvrtc, SaysWhatSpills) {
  // Eight steps of a Newton iterate in the 64 registers that 1024 threads leave do not fit; two do.
  const auto at = [](int steps) { return KernelSource{.file = kNewton, .expression = kernel_expression<GruDiag, float, RecurrenceTensors<float>>("newton_fused_kernel", steps)}; };
  const std::vector<CompiledKernel> compiled = compile_kernels({at(2), at(8)}, kSm);
  EXPECT_EQ(compiled[0].spill_bytes + compiled[0].stack_bytes, 0);
  EXPECT_GT(compiled[1].spill_bytes, 0);
  EXPECT_EQ(compiled[1].registers, 64);
}

TEST_F(Nvrtc, FindsOnDiskWhatIsMadeFromTheSame) {
  const Cache cache;
  const KernelSource gru{.file = kNewton, .expression = kGru};
  const CompiledKernel cold = compile(gru);
  ASSERT_EQ(cold.error, "");
  EXPECT_FALSE(cold.cached);
  ASSERT_EQ(cache.files().size(), 1u);
  const CompiledKernel warm = compile(gru);
  EXPECT_TRUE(warm.cached);
  expect_same(warm, cold);
  EXPECT_LT(warm.compile_s, cold.compile_s);

  KernelSource other = gru;
  other.expression = "prnn::cuda::newton_fused_kernel<prnn::GruDiag, float, prnn::RecurrenceTensors<float>, 5>";
  const auto is_new = [&](const KernelSource& kernel, int sm) {
    const std::size_t before = cache.files().size();
    const CompiledKernel compiled = compile(kernel, sm);
    EXPECT_EQ(compiled.error, "");
    return !compiled.cached && cache.files().size() == before + 1;
  };
  EXPECT_TRUE(is_new(other, kSm));
  EXPECT_TRUE(is_new(gru, 80)) << "for another GPU";
  EXPECT_NE(compile(gru, 80).cubin, cold.cubin);
  KernelSource mine = gru;
  mine.header = "my_cell.hpp";
  mine.header_content = "// nothing\n";
  EXPECT_TRUE(is_new(mine, kSm));
  KernelSource changed = mine;
  changed.header_content = "// something\n";
  EXPECT_TRUE(is_new(changed, kSm)) << "a header that says something else";

  put(cache.folder() / cache.files()[0].filename(), "damaged");
  EXPECT_FALSE(compile(gru).cached && compile(other).cached && compile(gru, 80).cached && compile(mine).cached && compile(changed).cached) << "one of them was damaged";
  KernelSource wrong = gru;
  wrong.expression = "prnn::cuda::no_kernel<float>";
  const std::size_t before = cache.files().size();
  EXPECT_NE(compile(wrong).error.find("no_kernel"), std::string::npos);
  EXPECT_EQ(cache.files().size(), before) << "what does not compile is not kept";
}

constexpr const char* kCell = R"(#pragma once
#include "kernels/cells/cell.hpp"
namespace prnn {
struct Leaky {  // h' = tanh(a h + u)
  static constexpr const char* name = "leaky";
  static constexpr int kState = 1, kWeights = 1, kInputs = 1, kGates = 1;
  static constexpr prnn::Memory memory{};
  template <class S, class P>
  static constexpr void step(const S (&h)[1], const P (&a)[1], const P (&u)[1], S (&h_next)[1]) {
    h_next[0] = tanh_gate(a[0] * h[0] + u[0]);
  }
};
}  // namespace prnn
)";

TEST_F(Nvrtc, CompilesACellThatTheProgramWasNotBuiltWith) {
  std::vector<KernelSource> kernels;
  const auto add = [&](const char* file, const std::string& expression) {
    kernels.push_back({.file = std::string("kernels/solvers/cuda/") + file + ".cu", .expression = expression, .header = "cells/leaky.hpp", .header_content = kCell});
  };
  add("newton_fused", "prnn::cuda::newton_fused_kernel<prnn::Leaky, float, prnn::RecurrenceTensors<float>, 2>");
  add("shooting", "prnn::cuda::shooting_kernel<prnn::Leaky, double, 1, true, 8>");
  add("reduction", "prnn::cuda::reduction_kernel<prnn::Leaky, float, false>");
  for (const CompiledKernel& compiled : compile_kernels(kernels, kSm)) {
    EXPECT_EQ(compiled.error, "");
    EXPECT_TRUE(is_cubin(compiled.cubin));
  }
}

TEST_F(Nvrtc, NamesFileAndLineOfAUsersMistake) {
  KernelSource kernel{.file = kNewton,
                      .expression = "prnn::cuda::newton_fused_kernel<prnn::Leaky, float, prnn::RecurrenceTensors<float>, 2>",
                      .header = "cells/leaky.hpp",
                      .header_content = kCell};
  kernel.header_content.replace(kernel.header_content.find("tanh_gate"), 9, "tanh_gat");
  EXPECT_NE(compile(kernel).error.find("leaky.hpp(10): error: identifier \"tanh_gat\" is undefined"), std::string::npos) << compile(kernel).error;
  kernel.header_content = "#include \"other.hpp\"\n";
  EXPECT_NE(compile(kernel).error.find("other.hpp"), std::string::npos) << compile(kernel).error;
}

}  // namespace
}  // namespace prnn

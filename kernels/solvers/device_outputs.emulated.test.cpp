// device_outputs.emulated.test.cpp: the emulated GPU computes what an H200 computed. kernels/solvers/testdata/h200_outputs.txt holds what small problems gave there, written by
// this test (PRNN_TEST_DEVICE=cuda PRNN_WRITE_OUTPUTS=FILE), from two builds of the same sources:
//   plain    -DPRNN_PLAIN_ARITHMETIC=ON: gates from polynomials instead of the special-function unit, no multiply and add contracted. Every output is the emulator's, bit for bit.
//   shipped  what users run: within 2 ulp a step of the emulator's.
// A line: arithmetic solver pass cell storage B D L key=value.. : tensor=bytes, hexadecimal, or all=SHA-256 of every output's bytes.
#include <gtest/gtest.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "harness/sha256.hpp"
#include "kernels/cells/cell.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::testing {
namespace {

#ifdef PRNN_PLAIN_ARITHMETIC
constexpr const char* kArithmetic = "plain";
#else
constexpr const char* kArithmetic = "shipped";
#endif
constexpr const char* kFile = PRNN_SOURCE_DIR "/kernels/solvers/testdata/h200_outputs.txt";

struct Line {
  std::string arithmetic, solver;
  Problem problem;
  std::map<std::string, std::string> contents;
};

std::string text_of(const Line& line) {
  const Problem& p = line.problem;
  std::string text = fmt::format("{} {} {} {} {} {} {} {}", line.arithmetic, line.solver, p.pass, p.cell, to_string(p.storage), p.batch, p.hidden, p.seq_len);
  for (const auto& [key, value] : p.policy) text += fmt::format(" {}={}", key, value);
  text += " :";
  for (const auto& [tensor, bytes] : line.contents) text += " " + tensor + "=" + bytes;
  return text;
}

Line parse(const std::string& text) {
  std::istringstream words(text);
  Line line;
  std::string pass, cell, storage, word;
  std::int64_t batch, hidden, seq_len;
  words >> line.arithmetic >> line.solver >> pass >> cell >> storage >> batch >> hidden >> seq_len;
  line.problem = random_start_problem(cell, parse_storage(storage).value(), batch, hidden, seq_len);
  line.problem.pass = pass;
  for (bool policy = true; words >> word;) {
    const std::size_t equals = word.find('=');
    if (word == ":") policy = false;
    else if (policy) line.problem.policy[word.substr(0, equals)] = std::stoll(word.substr(equals + 1));
    else line.contents[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return line;
}

std::string hexadecimal(const std::vector<unsigned char>& bytes) {
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}
template <class T>
std::vector<T> values_of(const std::string& hexadecimal) {
  std::vector<T> values(hexadecimal.size() / (2 * sizeof(T)));
  auto* bytes = reinterpret_cast<unsigned char*>(values.data());
  for (std::size_t i = 0; i < hexadecimal.size() / 2; ++i) std::from_chars(&hexadecimal[2 * i], &hexadecimal[2 * i] + 2, bytes[i], 16);
  return values;
}

std::map<std::string, std::string> contents_of(const Workbench& bench, bool whole) {
  std::map<std::string, std::string> contents;
  std::string all;
  for (const Tensors::Item& item : bench.tensors.items) {
    const std::vector<unsigned char> bytes = bench.bytes(item.spec.name);
    if (item.spec.written()) all.append(bytes.begin(), bytes.end());
    if (whole && (item.spec.written() || item.spec.role == Role::state)) contents[item.spec.name] = hexadecimal(bytes);
  }
  if (!whole) contents["all"] = sha256(all);
  return contents;
}

/// f(problem) for the problems of the file: every cell, storage and pass, a short batch and a sequence that is cut; shipped: float alone, one small problem whose values are kept.
template <class F>
void for_every_problem(F&& f) {
  const bool plain = std::string_view(kArithmetic) == "plain";
  for (const char* pass : {"forward", "backward"}) {
    AllCells::for_each([&]<class Cell>() {
      for (const Storage storage : kStorages) {
        if (!plain && storage != Storage::f32) continue;
        const auto problem = [&](std::int64_t batch, std::int64_t hidden, std::int64_t seq_len) {
          Problem p = random_start_problem(Cell::name, storage, batch, hidden, seq_len);
          p.pass = pass;
          f(p);
        };
        if (!plain) return problem(2, 2, 24);
        problem(2, 5, 37);
        problem(1, 3, 517);
      }
    });
  }
}

/// What the device at hand gives, line by line; of solvers that the emulator has too and that give the same bits on every run; not auto, which is one of them.
std::vector<Line> lines_of(Machine& machine) {
  std::vector<Line> lines;
  for_every_problem([&](const Problem& p) {
    for (const std::string& name : solver_names()) {
      const Solver* const solver = find_solver(name, machine.device(), p);
      if (!solver || !solver->deterministic || name == "auto" || !solver->why_not(p).empty() || !find_solver(name, "emulated", p)) continue;
      Workbench bench(p, machine);
      const auto run = solver->prepare(p, machine);
      bench.poison_outputs();
      run->launch(bench.tensors, machine.stream());
      machine.synchronise();
      Line line{kArithmetic, name, p, contents_of(bench, std::string_view(kArithmetic) == "shipped")};
      line.problem.policy = run->policy();
      lines.push_back(std::move(line));
    }
  });
  return lines;
}

std::vector<Line> committed(std::string_view arithmetic) {
  std::vector<Line> lines;
  std::ifstream file(kFile);
  for (std::string text; std::getline(file, text);) {
    if (text.starts_with(arithmetic)) lines.push_back(parse(text));
  }
  return lines;
}

/// Solves a line's problem on the machine as the line says, from the states that it holds where the pass starts from states.
Workbench solved(const Line& line, Machine& machine) {
  Workbench bench(line.problem, machine);
  for (const Tensors::Item& item : bench.tensors.items) {
    const auto given = line.contents.find(item.spec.name);
    if (item.spec.role == Role::state && given != line.contents.end()) bench.put(item.spec.name, values_of<unsigned char>(given->second));
  }
  bench.solve(line.solver);
  return bench;
}

constexpr double kUlp = 0x1p-23;

/// Checks a line of float outputs against what the emulator gives, within what 2 ulp a step grow to along the recurrence. The unit is an ulp of 1 or of the largest of the
/// channel: gates lie below 1, and their errors are absolute. A gate's slope by its pre-activation is at most 1, and so is what a state passes on through u and a.
template <class Cell>
void expect_close(const Line& line, const Workbench& bench) {
  constexpr int K = Cell::kState, I = Cell::kInputs, W = Cell::kWeights;
  const Problem& p = line.problem;
  const std::int64_t B = p.batch, D = p.hidden, L = p.seq_len;
  std::map<std::string, std::vector<float>> theirs, ours;
  for (const auto& [tensor, text] : line.contents) {
    theirs[tensor] = values_of<float>(text);
    ours[tensor] = bench.values<float>(tensor);
    ASSERT_EQ(theirs[tensor].size(), ours[tensor].size()) << tensor;
  }
  const auto gap = [&](const char* tensor, std::int64_t at) { return std::fabs(double(theirs[tensor][std::size_t(at)]) - double(ours[tensor][std::size_t(at)])); };
  const std::vector<float> a = bench.values<float>("a"), u = bench.values<float>("u"), h0 = bench.values<float>("h0"), h = bench.values<float>("h");
  std::vector<double> da_bound(std::size_t(W * D), 0);
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t d = 0; d < D; ++d) {
      std::vector<std::array<std::array<double, K>, K>> size_of_jacobian(static_cast<std::size_t>(L));
      double states[K];
      for (int k = 0; k < K; ++k) states[k] = h0[std::size_t((b * K + k) * D + d)];
      for (std::int64_t l = 0; l < L; ++l) {
        double weights[W], inputs[I], next[K], jacobian[K][K];
        for (int w = 0; w < W; ++w) weights[w] = a[std::size_t(w * D + d)];
        for (int i = 0; i < I; ++i) inputs[i] = u[std::size_t(((b * L + l) * I + i) * D + d)];
        step_and_jacobian<Cell>(states, weights, inputs, next, jacobian);
        for (int k = 0; k < K; ++k) {
          states[k] = h[std::size_t(((b * L + l) * K + k) * D + d)];
          for (int j = 0; j < K; ++j) size_of_jacobian[std::size_t(l)][std::size_t(k)][std::size_t(j)] = std::fabs(jacobian[k][j]);
        }
      }
      if (p.pass == "forward") {
        std::array<double, K> bound{};
        for (std::int64_t l = 0; l < L; ++l) {
          std::array<double, K> next;
          for (std::size_t k = 0; k < K; ++k) {
            const std::int64_t at = ((b * L + l) * K + std::int64_t(k)) * D + d;
            next[k] = 2 * kUlp * std::max(1.0, std::fabs(double(h[std::size_t(at)])));
            for (std::size_t j = 0; j < K; ++j) next[k] += size_of_jacobian[std::size_t(l)][k][j] * bound[j];
            EXPECT_LE(gap("h", at), next[k]) << text_of(line).substr(0, 80) << " b " << b << " l " << l << " d " << d << " component " << k;
          }
          bound = next;
        }
        for (std::size_t k = 0; k < K; ++k) EXPECT_LE(gap("last", (b * K + std::int64_t(k)) * D + d), bound[k]) << text_of(line).substr(0, 80);
        continue;
      }
      double scale = 1;
      for (std::int64_t row = 0; row < L * I; ++row) scale = std::max(scale, std::fabs(double(ours["du"][std::size_t((b * L * I + row) * D + d)])));
      std::array<double, K> bound{};  // of the adjoint
      for (std::int64_t l = L - 1; l >= 0; --l) {
        double through = 2 * kUlp * scale;
        for (const double part : bound) through += part + 2 * kUlp * scale;
        for (int i = 0; i < I; ++i)
          EXPECT_LE(gap("du", ((b * L + l) * I + i) * D + d), through) << text_of(line).substr(0, 80) << " b " << b << " l " << l << " d " << d << " input " << i;
        for (int w = 0; w < W; ++w) da_bound[std::size_t(w * D + d)] += through;
        std::array<double, K> next;
        for (std::size_t j = 0; j < K; ++j) {
          next[j] = 2 * kUlp * scale;
          for (std::size_t k = 0; k < K; ++k) next[j] += size_of_jacobian[std::size_t(l)][k][j] * bound[k];
        }
        bound = next;
      }
      for (std::size_t k = 0; k < K; ++k) EXPECT_LE(gap("dh0", (b * K + std::int64_t(k)) * D + d), bound[k]) << text_of(line).substr(0, 80);
    }
  }
  if (p.pass != "backward") return;
  for (std::int64_t at = 0; at < W * D; ++at) EXPECT_LE(gap("da", at), da_bound[std::size_t(at)]) << text_of(line).substr(0, 80) << " weight " << at;
}

TEST(DeviceOutputs, AreTheEmulatorsBitForBitWhereArithmeticIsPlain) {
  const auto machine = open_machine("emulated");
  const std::vector<Line> lines = committed("plain");
  for (const Line& line : lines) EXPECT_EQ(contents_of(solved(line, *machine), false), line.contents) << text_of(line);
  EXPECT_GE(lines.size(), 100u) << kFile;
}

TEST(DeviceOutputs, AreTheEmulatorsWithinTwoUlpAStepAsShipped) {
  const auto machine = open_machine("emulated");
  const std::vector<Line> lines = committed("shipped");
  int apart = 0;
  for (const Line& line : lines) {
    const Workbench bench = solved(line, *machine);
    AllCells::for_each([&]<class Cell>() {
      if (line.problem.cell == Cell::name) expect_close<Cell>(line, bench);
    });
    apart += contents_of(bench, true) != line.contents;
  }
  EXPECT_GE(lines.size(), 20u) << kFile;
  EXPECT_GT(apart, 0) << "a special-function unit and contracted products round differently: were these written by an emulator?";
}

/// Needs a GPU: writes what it gives, or holds it against the file.
TEST(DeviceOutputs, AreThoseOfTheFileOnAGpu) {
  const char *device = std::getenv("PRNN_TEST_DEVICE"), *path = std::getenv("PRNN_WRITE_OUTPUTS");
  if (!device || std::string_view(device) != "cuda") GTEST_SKIP() << "no GPU: PRNN_TEST_DEVICE is not cuda";
  const auto machine = open_machine("cuda");
  const std::vector<Line> lines = lines_of(*machine), known = committed(kArithmetic);
  if (path) {
    std::ofstream file(path, std::ios::app);
    const GpuInfo gpu = machine->gpu().value();
    file << fmt::format("# {} arithmetic: {}, driver {}, {} multiprocessors\n", kArithmetic, gpu.name, gpu.driver, gpu.multiprocessors);
    for (const Line& line : lines) file << text_of(line) << "\n";
    return;
  }
  ASSERT_EQ(lines.size(), known.size()) << kFile;
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(text_of(lines[i]), text_of(known[i]));
}

}  // namespace
}  // namespace prnn::testing

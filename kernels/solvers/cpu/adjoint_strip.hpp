// adjoint_strip.hpp: stretches of channels side by side in vectors, walked back along the sequence: what the CPU solvers of pass backward but seq_stepwise are made of.
#pragma once

#include <cmath>

#include "kernels/fault.hpp"
#include "kernels/solvers/cpu/backward.hpp"
#include "kernels/solvers/cpu/lanes.hpp"

namespace prnn::cpu {

/// Lanes `lane` .. lane + width - 1 are the neighbouring channels (b, d) .. (b, d + width - 1). They go from step `first` down to step `low`; steps up to `own` are theirs.
struct StretchBack {
  std::int64_t b, d, first, own, low;
  int width;
  int unit = -1;           // from 0 on: they start from that unit vector and the loss adds nothing, so that they end in a column of the product of the J^T
  bool stores = true;      // du of their own steps, and dh0
  std::int64_t index = 0;  // the solver's own number of the first lane
  int lane = 0;
};

/// The lanes that a thread walks together, all from their first step on.
template <class Cell, class T>
class AdjointStrip : public AdjointLanes<Cell, compute_t<T>> {
  using C = compute_t<T>;
  using Lanes = AdjointLanes<Cell, C>;
  static constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;

 public:
  static constexpr int kMost = Lanes::kLanes;

  AdjointStrip(const Layout<Cell>& at, const BackwardTensors<T>& t, int vector_bytes) : at_(at), t_(t), step_back_(step_back_of(Cell::name, storage_of<C>, vector_bytes)) {}

  /// Lanes that only fill the last vector compute with zeros.
  void clear() {
    static_cast<Lanes&>(*this) = {};
    count_ = lanes_ = 0;
  }

  /// Lanes that start from grad_last where their first step is the sequence's last, else from 0; see StretchBack::unit. At most kMost in all. Returns the first of them.
  int add(const StretchBack& stretch) {
    StretchBack& mine = stretches_[count_++];
    mine = stretch;
    mine.lane = lanes_;
    lanes_ += mine.width;
    std::fill_n(exponent_ + mine.lane, mine.width, 0);
    for (int k = 0; k < W; ++k) load(this->a[k] + mine.lane, t_.a + at_.a(k, mine.d), mine.width);
    for (int i = 0; i < K; ++i) {
      if (mine.unit >= 0) std::fill_n(this->g[i] + mine.lane, mine.width, C(i == mine.unit ? 1 : 0));
      else if (mine.first == at_.seq_len - 1) load(this->g[i] + mine.lane, t_.grad_last + at_.edge(mine.b, i, mine.d), mine.width);
    }
    return mine.lane;
  }

  /// Of a lane that started from a unit vector: the column is g x 2 to the power of this.
  int exponent(int lane) const { return exponent_[lane]; }

  /// In ends(): the stretch's sums of da, into sums [kWeights, D].
  void store_sums(const StretchBack& stretch, CompensatedSum<C>* sums) const {
    for (int k = 0; k < W; ++k) {
      CompensatedSum<C>* const to = sums + at_.a(k, stretch.d);
      for (int i = 0; i < stretch.width; ++i) to[i].sum = this->sum[k][stretch.lane + i], to[i].lost = this->lost[k][stretch.lane + i];
    }
  }

  /// Every lane to its end. begins(stretch) before a stretch's own steps, ends(stretch) after its last: lanes have g of that place, and in the end the sums of da of their own steps.
  template <class Begins, class Ends>
  void walk(const Begins& begins, const Ends& ends) {
    for (std::int64_t step = 0;; ++step) {
      bool any = false;
      for (int s = 0; s < count_; ++s) {
        const StretchBack& stretch = stretches_[s];
        const std::int64_t l = stretch.first - step;
        if (l < stretch.low) continue;
        any = true;
        if (l == stretch.own) {
          for (int k = 0; k < W; ++k) std::fill_n(this->sum[k] + stretch.lane, stretch.width, C(0)), std::fill_n(this->lost[k] + stretch.lane, stretch.width, C(0));
          begins(stretch);
        }
        load_step(stretch, l);
      }
      if (!any) return;
      step_back_(static_cast<Lanes*>(this), lanes_);
      for (int s = 0; s < count_; ++s) {
        const StretchBack& stretch = stretches_[s];
        const std::int64_t l = stretch.first - step;
        if (l < stretch.low) continue;
        if (stretch.stores && l <= stretch.own) store_step(stretch, l);
        if (l > stretch.low) continue;
        if (stretch.stores && l == 0) {
          for (int i = 0; i < K; ++i) std::copy_n(this->g[i] + stretch.lane, stretch.width, t_.dh0 + at_.edge(stretch.b, i, stretch.d));
        }
        ends(stretch);
        for (int i = 0; i < K; ++i) std::fill_n(this->g[i] + stretch.lane, stretch.width, C(0));
      }
    }
  }

 private:
  template <class From>
  static void load(C* to, const From* from, int width) {
    for (int i = 0; i < width; ++i) to[i] = to_compute(from[i]);
  }

  void load_step(const StretchBack& stretch, std::int64_t l) {
    const std::int64_t b = stretch.b, d = stretch.d;
    const int lane = stretch.lane, width = stretch.width, G = t_.grad_components;
    for (int k = 0; k < I; ++k) load(this->u[k] + lane, t_.u + at_.u(b, l, k, d), width);
    for (int i = 0; i < K; ++i) {
      if (l == 0) PRNN_FAULT(27, load(this->h_before[i] + lane, t_.h0 + at_.edge(b, i, d), width), void(std::fill_n(this->h_before[i] + lane, width, C(0))));
      else load(this->h_before[i] + lane, t_.h + at_.h(b, l - 1, i, d), width);
    }
    if (stretch.unit >= 0) return keep_in_range(lane, width);
    const C factor = t_.grad_factor();
    for (int k = 0; k < G; ++k) {
      const T* const grad = t_.grad_h + t_.grad_at(at_, b, l, k, d);
      C* const g = this->g[PRNN_FAULT(52, K - G + k, k)] + lane;
      for (int i = 0; i < width; ++i) g[i] = g[i] + factor * to_compute(grad[i]);
    }
  }

  /// Products grow and shrink without end where adjoints, to which the loss adds, do not; and subnormal numbers are slow.
  void keep_in_range(int first, int width) {
    constexpr int kBits = 64;
    for (int lane = first; lane < first + width; ++lane) {
      C most = C(0);
      for (int i = 0; i < K; ++i) most = std::max(most, std::fabs(this->g[i][lane]));
      if (most == C(0) || (most >= C(0x1p-64) && most <= C(0x1p64))) continue;
      const int by = most < C(1) ? kBits : -kBits;
      for (int i = 0; i < K; ++i) this->g[i][lane] = std::ldexp(this->g[i][lane], by);
      exponent_[lane] -= by;
    }
  }

  void store_step(const StretchBack& stretch, std::int64_t l) const {
    for (int k = 0; k < I; ++k) {
      T* const du = t_.du + at_.u(stretch.b, l, k, stretch.d);
      for (int i = 0; i < stretch.width; ++i) du[i] = to_storage<T>(this->du[k][stretch.lane + i]);
    }
  }

  const Layout<Cell> at_;
  const BackwardTensors<T> t_;
  const StepBack step_back_;
  int count_ = 0, lanes_ = 0;
  StretchBack stretches_[kMost];
  int exponent_[kMost];
};

}  // namespace prnn::cpu

// lent_number.hpp: a number of many digits whose arithmetic the program lends to the shared object of a user's cell: there Mp and MpCheck are these.
#pragma once

#include "reference/cell_object.hpp"

namespace prnn {

/// Set before the first number is made.
template <unsigned Digits>
inline const NumberTable* lent_numbers = nullptr;

template <unsigned Digits>
class LentNumber {
 public:
  LentNumber() = default;
  LentNumber(double x) { lent_numbers<Digits>->from_double(bytes_, x); }
  LentNumber(const LentNumber& x) { lent_numbers<Digits>->copy(bytes_, x.bytes_); }
  template <unsigned Other>
  explicit LentNumber(const LentNumber<Other>& x) {
    lent_numbers<Digits>->convert(bytes_, x.bytes());
  }
  LentNumber& operator=(const LentNumber& x) {
    if (this != &x) lent_numbers<Digits>->copy(bytes_, x.bytes_);
    return *this;
  }
  const void* bytes() const { return bytes_; }
  explicit operator double() const { return lent_numbers<Digits>->to_double(bytes_); }
  explicit operator float() const { return static_cast<float>(static_cast<double>(*this)); }

  friend LentNumber operator+(const LentNumber& x, const LentNumber& y) { return {lent_numbers<Digits>->add, x, y}; }
  friend LentNumber operator-(const LentNumber& x, const LentNumber& y) { return {lent_numbers<Digits>->subtract, x, y}; }
  friend LentNumber operator*(const LentNumber& x, const LentNumber& y) { return {lent_numbers<Digits>->multiply, x, y}; }
  friend LentNumber operator/(const LentNumber& x, const LentNumber& y) { return {lent_numbers<Digits>->divide, x, y}; }
  friend LentNumber operator-(const LentNumber& x) { return {lent_numbers<Digits>->negate, x}; }
  friend LentNumber abs(const LentNumber& x) { return {lent_numbers<Digits>->absolute, x}; }
  friend LentNumber exp(const LentNumber& x) { return {lent_numbers<Digits>->exponential, x}; }
  friend LentNumber tanh(const LentNumber& x) { return {lent_numbers<Digits>->hyperbolic_tangent, x}; }
  LentNumber& operator+=(const LentNumber& x) { return *this = *this + x; }

 private:
  LentNumber(NumberTable::Binary operation, const LentNumber& x, const LentNumber& y) { operation(bytes_, x.bytes_, y.bytes_); }
  LentNumber(NumberTable::Unary operation, const LentNumber& x) { operation(bytes_, x.bytes_); }

  alignas(std::max_align_t) unsigned char bytes_[kNumberBytes];
};

}  // namespace prnn

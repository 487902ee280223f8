;; What the trainer spends its time in: products of matrices, and what happens to each number between two products.
;; `scripts/assemble_kernel.py` turns this text into the bytes of kernel.js; a test compares the two. kernel.js has the
;; same in plain JavaScript, which says what each function does.
;;
;; All numbers are float32, all addresses and strides bytes, all counts numbers; none is 0. Products and sums are
;; multiplied and added one after the other, never fused, so that every machine gets the same bits.
(module
  (import "training" "memory" (memory 1))

  ;; to[i] = exp(scale from[i] - most), 0 below -87; returns their sum. Source: Cody and Waite's reduction by ln 2, Taylor's
  ;; series to the 7th power. One loop over many: a call for each four numbers takes as long as the numbers.
  (func $exps (param $to i32) (param $from i32) (param $n i32) (param $scale f32) (param $most f32) (result f32)
    (local $by v128) (local $less v128) (local $x v128) (local $e v128) (local $r v128) (local $kept v128) (local $sum v128)
    (local.set $by (f32x4.splat (local.get $scale)))
    (local.set $less (f32x4.splat (local.get $most)))
    (local.set $sum (v128.const 0))
    (loop $each
      (local.set $x (f32x4.sub (f32x4.mul (v128.load (local.get $from)) (local.get $by)) (local.get $less)))
      (local.set $kept (f32x4.gt (local.get $x) (v128.const f32x4 -87)))
      (local.set $x (f32x4.min (f32x4.max (local.get $x) (v128.const f32x4 -87)) (v128.const f32x4 88)))
      (local.set $e (f32x4.nearest (f32x4.mul (local.get $x) (v128.const f32x4 1.4426950408889634))))
      (local.set $r (f32x4.sub
        (f32x4.sub (local.get $x) (f32x4.mul (local.get $e) (v128.const f32x4 0.693359375)))
        (f32x4.mul (local.get $e) (v128.const f32x4 -2.12194440e-4))))
      (local.set $x (v128.const f32x4 1.984126984126984e-4))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 1.388888888888889e-3)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 8.333333333333333e-3)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 4.1666666666666664e-2)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 1.6666666666666666e-1)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 0.5)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 1)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 1)))
      (local.set $x (v128.and (local.get $kept) (f32x4.mul (local.get $x)
        (i32x4.shl (i32x4.add (i32x4.trunc_sat_f32x4_s (local.get $e)) (v128.const i32x4 127)) (i32.const 23)))))
      (v128.store (local.get $to) (local.get $x))
      (local.set $sum (f32x4.add (local.get $sum) (local.get $x)))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4)))))
    (call $total (local.get $sum)))

  (func $total (param $x v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $x)) (f32x4.extract_lane 1 (local.get $x)))
      (f32.add (f32x4.extract_lane 2 (local.get $x)) (f32x4.extract_lane 3 (local.get $x)))))

  (func $largest (param $x v128) (result f32)
    (f32.max
      (f32.max (f32x4.extract_lane 0 (local.get $x)) (f32x4.extract_lane 1 (local.get $x)))
      (f32.max (f32x4.extract_lane 2 (local.get $x)) (f32x4.extract_lane 3 (local.get $x)))))

  ;; A matrix [inner, columns] whose rows lie whole, as panels of 8 columns: [columns / 8, inner, 8].
  (func (export "pack") (param $to i32) (param $from i32) (param $inner i32) (param $columns i32) (param $row i32)
    (local $at i32) (local $k i32)
    (loop $panel
      (local.set $at (local.get $from))
      (local.set $k (local.get $inner))
      (loop $each
        (v128.store (local.get $to) (v128.load (local.get $at)))
        (v128.store offset=16 (local.get $to) (v128.load offset=16 (local.get $at)))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (local.set $at (i32.add (local.get $at) (local.get $row)))
        (br_if $each (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $from (i32.add (local.get $from) (i32.const 32)))
      (br_if $panel (local.tee $columns (i32.sub (local.get $columns) (i32.const 8))))))

  ;; The same of a matrix that lies turned, as [columns, inner].
  (func (export "pack_turned")
    (param $to i32) (param $from i32) (param $inner i32) (param $columns i32) (param $column i32)
    (local $place i32) (local $at i32) (local $i i32) (local $k i32)
    (loop $panel
      (local.set $i (i32.const 8))
      (loop $one
        (local.set $at (local.get $from))
        (local.set $place (local.get $to))
        (local.set $k (local.get $inner))
        (loop $each
          (f32.store (local.get $place) (f32.load (local.get $at)))
          (local.set $place (i32.add (local.get $place) (i32.const 32)))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (br_if $each (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (local.set $to (i32.add (local.get $to) (i32.const 4)))
        (local.set $from (i32.add (local.get $from) (local.get $column)))
        (br_if $one (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (local.set $to (i32.sub (local.get $place) (i32.const 28)))
      (br_if $panel (local.tee $columns (i32.sub (local.get $columns) (i32.const 8))))))

  ;; A matrix [rows, inner] that lies turned, as [inner, rows], in fours of rows: [rows / 4, inner, 4].
  (func (export "pack_fours") (param $to i32) (param $from i32) (param $inner i32) (param $rows i32) (param $row i32)
    (local $at i32) (local $k i32)
    (loop $four
      (local.set $at (local.get $from))
      (local.set $k (local.get $inner))
      (loop $each
        (v128.store (local.get $to) (v128.load (local.get $at)))
        (local.set $to (i32.add (local.get $to) (i32.const 16)))
        (local.set $at (i32.add (local.get $at) (local.get $row)))
        (br_if $each (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (br_if $four (local.tee $rows (i32.sub (local.get $rows) (i32.const 4))))))

  ;; y[r][c] (+)= bias[c] + sum over k of x[r][k] * w[k][c], w in panels: four rows and eight columns at a time. bias: 0 for
  ;; none. Neighbours in a row of x are `step` apart, four rows begin `four` behind the last four; a panel of w takes
  ;; `panel`. Of triangles half is left out: each four has `more` numbers more to add than the last and begins `ahead` later
  ;; in w; each panel has `less` rows fewer than the last, and begins `down` later in x and `on` later in y.
  (func (export "product")
    (param $y i32) (param $x i32) (param $w i32) (param $bias i32) (param $rows i32) (param $columns i32) (param $inner i32)
    (param $row i32) (param $step i32) (param $four i32) (param $panel i32) (param $y_row i32)
    (param $more i32) (param $ahead i32) (param $less i32) (param $down i32) (param $on i32) (param $adds i32)
    (local $from i32) (local $to i32) (local $left i32) (local $count i32) (local $k i32) (local $begin i32) (local $at i32)
    (local $x0 i32) (local $x1 i32) (local $x2 i32) (local $x3 i32)
    (local $a v128) (local $l v128) (local $h v128) (local $low v128) (local $high v128)
    (local $l0 v128) (local $h0 v128) (local $l1 v128) (local $h1 v128)
    (local $l2 v128) (local $h2 v128) (local $l3 v128) (local $h3 v128)
    (loop $next
      (block $none
        (br_if $none (i32.eqz (local.get $bias)))
        (local.set $low (v128.load (local.get $bias)))
        (local.set $high (v128.load offset=16 (local.get $bias)))
        (local.set $bias (i32.add (local.get $bias) (i32.const 32))))
      (local.set $from (local.get $x))
      (local.set $to (local.get $y))
      (local.set $left (local.get $rows))
      (local.set $begin (local.get $w))
      (local.set $count (local.get $inner))
      (loop $rest
        (local.set $x0 (local.get $from))
        (local.set $x1 (i32.add (local.get $x0) (local.get $row)))
        (local.set $x2 (i32.add (local.get $x1) (local.get $row)))
        (local.set $x3 (i32.add (local.get $x2) (local.get $row)))
        (local.set $at (local.get $begin))
        (local.set $k (local.get $count))
        (local.set $l0 (local.get $low)) (local.set $h0 (local.get $high))
        (local.set $l1 (local.get $low)) (local.set $h1 (local.get $high))
        (local.set $l2 (local.get $low)) (local.set $h2 (local.get $high))
        (local.set $l3 (local.get $low)) (local.set $h3 (local.get $high))
        (loop $sum
          (local.set $l (v128.load (local.get $at)))
          (local.set $h (v128.load offset=16 (local.get $at)))
          (local.set $a (v128.load32_splat (local.get $x0)))
          (local.set $l0 (f32x4.add (local.get $l0) (f32x4.mul (local.get $a) (local.get $l))))
          (local.set $h0 (f32x4.add (local.get $h0) (f32x4.mul (local.get $a) (local.get $h))))
          (local.set $a (v128.load32_splat (local.get $x1)))
          (local.set $l1 (f32x4.add (local.get $l1) (f32x4.mul (local.get $a) (local.get $l))))
          (local.set $h1 (f32x4.add (local.get $h1) (f32x4.mul (local.get $a) (local.get $h))))
          (local.set $a (v128.load32_splat (local.get $x2)))
          (local.set $l2 (f32x4.add (local.get $l2) (f32x4.mul (local.get $a) (local.get $l))))
          (local.set $h2 (f32x4.add (local.get $h2) (f32x4.mul (local.get $a) (local.get $h))))
          (local.set $a (v128.load32_splat (local.get $x3)))
          (local.set $l3 (f32x4.add (local.get $l3) (f32x4.mul (local.get $a) (local.get $l))))
          (local.set $h3 (f32x4.add (local.get $h3) (f32x4.mul (local.get $a) (local.get $h))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (local.set $x0 (i32.add (local.get $x0) (local.get $step)))
          (local.set $x1 (i32.add (local.get $x1) (local.get $step)))
          (local.set $x2 (i32.add (local.get $x2) (local.get $step)))
          (local.set $x3 (i32.add (local.get $x3) (local.get $step)))
          (br_if $sum (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (block $new
          (br_if $new (i32.eqz (local.get $adds)))
          (local.set $x0 (local.get $to))
          (local.set $l0 (f32x4.add (local.get $l0) (v128.load (local.get $x0))))
          (local.set $h0 (f32x4.add (local.get $h0) (v128.load offset=16 (local.get $x0))))
          (local.set $x0 (i32.add (local.get $x0) (local.get $y_row)))
          (local.set $l1 (f32x4.add (local.get $l1) (v128.load (local.get $x0))))
          (local.set $h1 (f32x4.add (local.get $h1) (v128.load offset=16 (local.get $x0))))
          (local.set $x0 (i32.add (local.get $x0) (local.get $y_row)))
          (local.set $l2 (f32x4.add (local.get $l2) (v128.load (local.get $x0))))
          (local.set $h2 (f32x4.add (local.get $h2) (v128.load offset=16 (local.get $x0))))
          (local.set $x0 (i32.add (local.get $x0) (local.get $y_row)))
          (local.set $l3 (f32x4.add (local.get $l3) (v128.load (local.get $x0))))
          (local.set $h3 (f32x4.add (local.get $h3) (v128.load offset=16 (local.get $x0)))))
        (v128.store (local.get $to) (local.get $l0))
        (v128.store offset=16 (local.get $to) (local.get $h0))
        (local.set $to (i32.add (local.get $to) (local.get $y_row)))
        (v128.store (local.get $to) (local.get $l1))
        (v128.store offset=16 (local.get $to) (local.get $h1))
        (local.set $to (i32.add (local.get $to) (local.get $y_row)))
        (v128.store (local.get $to) (local.get $l2))
        (v128.store offset=16 (local.get $to) (local.get $h2))
        (local.set $to (i32.add (local.get $to) (local.get $y_row)))
        (v128.store (local.get $to) (local.get $l3))
        (v128.store offset=16 (local.get $to) (local.get $h3))
        (local.set $to (i32.add (local.get $to) (local.get $y_row)))
        (local.set $from (i32.add (local.get $from) (local.get $four)))
        (local.set $begin (i32.add (local.get $begin) (local.get $ahead)))
        (local.set $count (i32.add (local.get $count) (local.get $more)))
        (br_if $rest (local.tee $left (i32.sub (local.get $left) (i32.const 4)))))
      (local.set $w (i32.add (local.get $w) (local.get $panel)))
      (local.set $x (i32.add (local.get $x) (local.get $down)))
      (local.set $y (i32.add (local.get $y) (local.get $on)))
      (local.set $rows (i32.sub (local.get $rows) (local.get $less)))
      (br_if $next (local.tee $columns (i32.sub (local.get $columns) (i32.const 8))))))

  ;; y[i] += x[i]
  (func $add (export "add") (param $y i32) (param $x i32) (param $n i32)
    (loop $each
      (v128.store (local.get $y) (f32x4.add (v128.load (local.get $y)) (v128.load (local.get $x))))
      (local.set $y (i32.add (local.get $y) (i32.const 16)))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4))))))

  ;; y += x[r], of each row of x
  (func (export "add_rows") (param $y i32) (param $x i32) (param $rows i32) (param $n i32)
    (loop $row
      (call $add (local.get $y) (local.get $x) (local.get $n))
      (local.set $x (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; y[i] *= x[i]
  (func (export "multiply") (param $y i32) (param $x i32) (param $n i32)
    (loop $each
      (v128.store (local.get $y) (f32x4.mul (v128.load (local.get $y)) (v128.load (local.get $x))))
      (local.set $y (i32.add (local.get $y) (i32.const 16)))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4))))))

  ;; x[i] *= by
  (func (export "scale") (param $x i32) (param $n i32) (param $by f32)
    (loop $each
      (v128.store (local.get $x) (f32x4.mul (v128.load (local.get $x)) (f32x4.splat (local.get $by))))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4))))))

  ;; y[r] = gelu_new(x[r]) and x[r] = its slope there. gelu_new(x) is x s with s = sigmoid(a x + b x^3), a = 2 sqrt(2 / pi),
  ;; b = 0.044715 a; its slope s + x s (1 - s) (a + 3 b x^2).
  (func (export "gelu") (param $y i32) (param $x i32) (param $rows i32) (param $n i32)
    (local $at i32) (local $to i32) (local $i i32) (local $u v128) (local $s v128)
    (loop $row
      (local.set $at (local.get $x))
      (local.set $to (local.get $y))
      (local.set $i (local.get $n))
      (loop $look
        (local.set $u (v128.load (local.get $at)))
        (v128.store (local.get $to) (f32x4.mul (local.get $u) (f32x4.sub (v128.const f32x4 -1.5957691216057308)
          (f32x4.mul (v128.const f32x4 0.07135481282628) (f32x4.mul (local.get $u) (local.get $u))))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (local.set $to (i32.add (local.get $to) (i32.const 16)))
        (br_if $look (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (drop (call $exps (local.get $y) (local.get $y) (local.get $n) (f32.const 1) (f32.const 0)))
      (local.set $i (local.get $n))
      (loop $each
        (local.set $u (v128.load (local.get $x)))
        (local.set $s (f32x4.div (v128.const f32x4 1) (f32x4.add (v128.const f32x4 1) (v128.load (local.get $y)))))
        (v128.store (local.get $y) (f32x4.mul (local.get $u) (local.get $s)))
        (v128.store (local.get $x) (f32x4.add (local.get $s)
          (f32x4.mul
            (f32x4.mul (local.get $u) (f32x4.mul (local.get $s) (f32x4.sub (v128.const f32x4 1) (local.get $s))))
            (f32x4.add (v128.const f32x4 1.5957691216057308)
              (f32x4.mul (v128.const f32x4 0.21406443847884) (f32x4.mul (local.get $u) (local.get $u)))))))
        (local.set $x (i32.add (local.get $x) (i32.const 16)))
        (local.set $y (i32.add (local.get $y) (i32.const 16)))
        (br_if $each (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; x[r] = softmax(scale x[r]); told[r] = the largest of scale x[r], and the sum that the row was divided by. Of a triangle
  ;; row r has r + 1 numbers; behind them 0 is put as far as eight columns reach.
  (func (export "softmax") (param $x i32) (param $rows i32) (param $n i32) (param $scale f32) (param $told i32) (param $is_triangle i32)
    (local $r i32) (local $count i32) (local $at i32) (local $i i32) (local $most v128) (local $by f32) (local $share v128)
    (loop $row
      (local.set $count (local.get $n))
      (block $whole
        (br_if $whole (i32.eqz (local.get $is_triangle)))
        (local.set $count (call $reach (local.get $r)))
        (local.set $i (i32.sub (i32.sub (local.get $count) (local.get $r)) (i32.const 1)))
        (br_if $whole (i32.eqz (local.get $i)))
        (local.set $at (i32.add (local.get $x) (i32.shl (local.get $r) (i32.const 2))))
        (loop $hide
          (f32.store offset=4 (local.get $at) (f32.const -1e30))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (br_if $hide (local.tee $i (i32.sub (local.get $i) (i32.const 1))))))
      (local.set $at (local.get $x))
      (local.set $i (local.get $count))
      (local.set $most (v128.load (local.get $at)))
      (loop $look
        (local.set $most (f32x4.max (local.get $most) (v128.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $look (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $by (f32.mul (local.get $scale) (call $largest (local.get $most))))
      (f32.store (local.get $told) (local.get $by))
      (local.set $by (call $exps (local.get $x) (local.get $x) (local.get $count) (local.get $scale) (local.get $by)))
      (f32.store offset=4 (local.get $told) (local.get $by))
      (local.set $share (f32x4.splat (f32.div (f32.const 1) (local.get $by))))
      (local.set $at (local.get $x))
      (local.set $i (local.get $count))
      (loop $divide
        (v128.store (local.get $at) (f32x4.mul (v128.load (local.get $at)) (local.get $share)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $divide (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $x (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
      (local.set $told (i32.add (local.get $told) (i32.const 8)))
      (local.set $r (i32.add (local.get $r) (i32.const 1)))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; How far eight columns reach that hold the first r + 1.
  (func $reach (param $r i32) (result i32)
    (i32.and (i32.add (local.get $r) (i32.const 8)) (i32.const -8)))

  ;; d[r] = scale p[r] (d[r] - sum of p[r] d[r]), of a triangle as softmax has it
  (func (export "softmax_back") (param $d i32) (param $p i32) (param $rows i32) (param $n i32) (param $scale f32)
    (local $r i32) (local $count i32) (local $a i32) (local $b i32) (local $i i32) (local $sum v128)
    (loop $row
      (local.set $count (call $reach (local.get $r)))
      (local.set $a (local.get $d))
      (local.set $b (local.get $p))
      (local.set $i (local.get $count))
      (local.set $sum (v128.const 0))
      (loop $look
        (local.set $sum (f32x4.add (local.get $sum)
          (f32x4.mul (v128.load (local.get $a)) (v128.load (local.get $b)))))
        (local.set $a (i32.add (local.get $a) (i32.const 16)))
        (local.set $b (i32.add (local.get $b) (i32.const 16)))
        (br_if $look (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $sum (f32x4.splat (call $total (local.get $sum))))
      (local.set $a (local.get $d))
      (local.set $b (local.get $p))
      (local.set $i (local.get $count))
      (loop $each
        (v128.store (local.get $a) (f32x4.mul (f32x4.splat (local.get $scale))
          (f32x4.mul (v128.load (local.get $b)) (f32x4.sub (v128.load (local.get $a)) (local.get $sum)))))
        (local.set $a (i32.add (local.get $a) (i32.const 16)))
        (local.set $b (i32.add (local.get $b) (i32.const 16)))
        (br_if $each (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $d (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 2))))
      (local.set $p (i32.add (local.get $p) (i32.shl (local.get $n) (i32.const 2))))
      (local.set $r (i32.add (local.get $r) (i32.const 1)))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; LayerNorm: unit[r] = (x[r] - mean) scale[r], y[r] = unit[r] w + b; share: 1 / n
  (func (export "norm")
    (param $y i32) (param $unit i32) (param $scale i32) (param $x i32) (param $w i32) (param $b i32)
    (param $rows i32) (param $n i32) (param $share f32) (param $epsilon f32)
    (local $at i32) (local $i i32) (local $by f32) (local $mean v128) (local $sum v128) (local $u v128)
    (loop $row
      (local.set $sum (v128.const 0))
      (local.set $at (local.get $x))
      (local.set $i (local.get $n))
      (loop $look
        (local.set $sum (f32x4.add (local.get $sum) (v128.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $look (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $mean (f32x4.splat (f32.mul (local.get $share) (call $total (local.get $sum)))))
      (local.set $sum (v128.const 0))
      (local.set $at (local.get $x))
      (local.set $i (local.get $n))
      (loop $square
        (local.set $u (f32x4.sub (v128.load (local.get $at)) (local.get $mean)))
        (local.set $sum (f32x4.add (local.get $sum) (f32x4.mul (local.get $u) (local.get $u))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $square (local.tee $i (i32.sub (local.get $i) (i32.const 4)))))
      (local.set $by (f32.div (f32.const 1) (f32.sqrt
        (f32.add (local.get $epsilon) (f32.mul (local.get $share) (call $total (local.get $sum)))))))
      (f32.store (local.get $scale) (local.get $by))
      (local.set $at (i32.const 0))
      (loop $each
        (local.set $u (f32x4.mul (f32x4.splat (local.get $by))
          (f32x4.sub (v128.load (local.get $x)) (local.get $mean))))
        (v128.store (local.get $unit) (local.get $u))
        (v128.store (local.get $y) (f32x4.add (v128.load (i32.add (local.get $b) (local.get $at)))
          (f32x4.mul (local.get $u) (v128.load (i32.add (local.get $w) (local.get $at))))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (local.set $x (i32.add (local.get $x) (i32.const 16)))
        (local.set $y (i32.add (local.get $y) (i32.const 16)))
        (local.set $unit (i32.add (local.get $unit) (i32.const 16)))
        (br_if $each (i32.lt_u (local.get $at) (i32.shl (local.get $n) (i32.const 2)))))
      (local.set $scale (i32.add (local.get $scale) (i32.const 4)))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; Its way back: dx[r] += scale[r] (e - mean of e - unit[r] mean of e unit[r]) with e = d[r] w; dw += d[r] unit[r],
  ;; db += d[r]
  (func (export "norm_back")
    (param $dx i32) (param $d i32) (param $unit i32) (param $scale i32) (param $w i32) (param $dw i32) (param $db i32)
    (param $rows i32) (param $n i32) (param $share f32)
    (local $at i32) (local $a i32) (local $b i32) (local $e v128) (local $u v128) (local $by v128)
    (local $mean v128) (local $along v128)
    (loop $row
      (local.set $mean (v128.const 0))
      (local.set $along (v128.const 0))
      (local.set $at (i32.const 0))
      (local.set $a (local.get $d))
      (local.set $b (local.get $unit))
      (loop $look
        (local.set $u (v128.load (local.get $b)))
        (local.set $e (v128.load (local.get $a)))
        (v128.store (i32.add (local.get $db) (local.get $at))
          (f32x4.add (v128.load (i32.add (local.get $db) (local.get $at))) (local.get $e)))
        (v128.store (i32.add (local.get $dw) (local.get $at))
          (f32x4.add (v128.load (i32.add (local.get $dw) (local.get $at)))
            (f32x4.mul (local.get $e) (local.get $u))))
        (local.set $e (f32x4.mul (local.get $e) (v128.load (i32.add (local.get $w) (local.get $at)))))
        (local.set $mean (f32x4.add (local.get $mean) (local.get $e)))
        (local.set $along (f32x4.add (local.get $along) (f32x4.mul (local.get $e) (local.get $u))))
        (local.set $a (i32.add (local.get $a) (i32.const 16)))
        (local.set $b (i32.add (local.get $b) (i32.const 16)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $look (i32.lt_u (local.get $at) (i32.shl (local.get $n) (i32.const 2)))))
      (local.set $mean (f32x4.splat (f32.mul (local.get $share) (call $total (local.get $mean)))))
      (local.set $along (f32x4.splat (f32.mul (local.get $share) (call $total (local.get $along)))))
      (local.set $by (v128.load32_splat (local.get $scale)))
      (local.set $at (i32.const 0))
      (loop $each
        (local.set $e (f32x4.mul (v128.load (local.get $d)) (v128.load (i32.add (local.get $w) (local.get $at)))))
        (v128.store (local.get $dx) (f32x4.add (v128.load (local.get $dx)) (f32x4.mul (local.get $by) (f32x4.sub
          (f32x4.sub (local.get $e) (local.get $mean))
          (f32x4.mul (v128.load (local.get $unit)) (local.get $along))))))
        (local.set $dx (i32.add (local.get $dx) (i32.const 16)))
        (local.set $d (i32.add (local.get $d) (i32.const 16)))
        (local.set $unit (i32.add (local.get $unit) (i32.const 16)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $each (i32.lt_u (local.get $at) (i32.shl (local.get $n) (i32.const 2)))))
      (local.set $scale (i32.add (local.get $scale) (i32.const 4)))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; the sum of x[i]^2
  (func (export "squares") (param $x i32) (param $n i32) (result f32)
    (local $sum v128)
    (local.set $sum (v128.const 0))
    (loop $each
      (local.set $sum (f32x4.add (local.get $sum) (f32x4.mul (v128.load (local.get $x)) (v128.load (local.get $x)))))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4)))))
    (call $total (local.get $sum)))

  ;; AdamW: m += (1 - beta1) (clip g - m), v = beta2 v + (1 - beta2) (clip g)^2, w = kept w - rate m / (sqrt(v) root + epsilon)
  (func (export "adamw")
    (param $w i32) (param $g i32) (param $m i32) (param $v i32) (param $n i32) (param $clip f32)
    (param $new1 f32) (param $beta2 f32) (param $new2 f32) (param $kept f32) (param $rate f32) (param $root f32)
    (param $epsilon f32)
    (local $a v128) (local $b v128) (local $d v128)
    (loop $each
      (local.set $d (f32x4.mul (v128.load (local.get $g)) (f32x4.splat (local.get $clip))))
      (local.set $a (v128.load (local.get $m)))
      (local.set $a (f32x4.add (local.get $a)
        (f32x4.mul (f32x4.splat (local.get $new1)) (f32x4.sub (local.get $d) (local.get $a)))))
      (v128.store (local.get $m) (local.get $a))
      (local.set $b (f32x4.add
        (f32x4.mul (f32x4.splat (local.get $beta2)) (v128.load (local.get $v)))
        (f32x4.mul (f32x4.splat (local.get $new2)) (f32x4.mul (local.get $d) (local.get $d)))))
      (v128.store (local.get $v) (local.get $b))
      (v128.store (local.get $w) (f32x4.sub
        (f32x4.mul (f32x4.splat (local.get $kept)) (v128.load (local.get $w)))
        (f32x4.div (f32x4.mul (f32x4.splat (local.get $rate)) (local.get $a))
          (f32x4.add (f32x4.mul (f32x4.sqrt (local.get $b)) (f32x4.splat (local.get $root)))
            (f32x4.splat (local.get $epsilon))))))
      (local.set $w (i32.add (local.get $w) (i32.const 16)))
      (local.set $g (i32.add (local.get $g) (i32.const 16)))
      (local.set $m (i32.add (local.get $m) (i32.const 16)))
      (local.set $v (i32.add (local.get $v) (i32.const 16)))
      (br_if $each (local.tee $n (i32.sub (local.get $n) (i32.const 4))))))
)

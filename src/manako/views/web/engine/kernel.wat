;; The one product that the engine of the page spends its time in: y = W x, float32, for several x at once.
;; `scripts/assemble_kernel.py` turns this text into the bytes of kernel.js; a test compares the two.
;;
;; y[t][r] = sum over i of w[r][i] * x[t][i]   for r in 0..rows, t in 0..count, i in 0..width
;;
;; All addresses and strides are bytes. width is a multiple of 64 bytes (16 numbers) and not 0; rows and count are not
;; 0. A row of W is read once from memory and stays in the cache for every x. Four sums run side by side, since one
;; alone would wait for each addition.
(module
  (import "engine" "memory" (memory 1))
  (func (export "product")
    (param $y i32) (param $w i32) (param $x i32) (param $rows i32) (param $width i32)
    (param $w_stride i32) (param $count i32) (param $x_stride i32) (param $y_stride i32)
    (local $xt i32) (local $yt i32) (local $t i32) (local $i i32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    loop $row
      local.get $x
      local.set $xt
      local.get $y
      local.set $yt
      local.get $count
      local.set $t
      loop $each
        v128.const 0
        local.set $a
        v128.const 0
        local.set $b
        v128.const 0
        local.set $c
        v128.const 0
        local.set $d
        i32.const 0
        local.set $i
        loop $inner
          local.get $w
          local.get $i
          i32.add
          v128.load offset=0
          local.get $xt
          local.get $i
          i32.add
          v128.load offset=0
          f32x4.mul
          local.get $a
          f32x4.add
          local.set $a

          local.get $w
          local.get $i
          i32.add
          v128.load offset=16
          local.get $xt
          local.get $i
          i32.add
          v128.load offset=16
          f32x4.mul
          local.get $b
          f32x4.add
          local.set $b

          local.get $w
          local.get $i
          i32.add
          v128.load offset=32
          local.get $xt
          local.get $i
          i32.add
          v128.load offset=32
          f32x4.mul
          local.get $c
          f32x4.add
          local.set $c

          local.get $w
          local.get $i
          i32.add
          v128.load offset=48
          local.get $xt
          local.get $i
          i32.add
          v128.load offset=48
          f32x4.mul
          local.get $d
          f32x4.add
          local.set $d

          local.get $i
          i32.const 64
          i32.add
          local.tee $i
          local.get $width
          i32.lt_u
          br_if $inner
        end
        local.get $a
        local.get $b
        f32x4.add
        local.get $c
        local.get $d
        f32x4.add
        f32x4.add
        local.set $a
        local.get $yt
        local.get $a
        f32x4.extract_lane 0
        local.get $a
        f32x4.extract_lane 1
        f32.add
        local.get $a
        f32x4.extract_lane 2
        local.get $a
        f32x4.extract_lane 3
        f32.add
        f32.add
        f32.store
        local.get $xt
        local.get $x_stride
        i32.add
        local.set $xt
        local.get $yt
        local.get $y_stride
        i32.add
        local.set $yt
        local.get $t
        i32.const 1
        i32.sub
        local.tee $t
        br_if $each
      end
      local.get $w
      local.get $w_stride
      i32.add
      local.set $w
      local.get $y
      i32.const 4
      i32.add
      local.set $y
      local.get $rows
      i32.const 1
      i32.sub
      local.tee $rows
      br_if $row
    end
  )
)
